"""Questions to a revision, and its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderflow.messaging.judgement import Judgement


@dataclass(frozen=True, slots=True)
class Question:
    """The request for one judgement."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Answers:
    """judgements are by the number of the question. failure says, in a clause, why some are missing; empty where none
    is."""

    judgements: dict[int, Judgement] = field(default_factory=dict)
    failure: str = ""
