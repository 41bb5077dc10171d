"""Requests of people to a rollout: annotations, each of which names its subject.

A request is not consumed. It holds while its subject is as named, and has no effect afterwards. A request that is
repeated or arrives late therefore has the effect of one request.

    promote   <revision>/<attempt>/<step>   pass this step; `full`: all remaining steps
    abort     <revision>/<attempt>          abort this attempt
    retry     <revision>/<attempt>          this attempt has ended: try the revision again
    rerun     <AnalysisRun>                 this run has no result: start another one
    undo      <revision>/<latest>           release this revision, until one newer than <latest> is created
    take-over <serial>                      overwrite the manual edit that replaced this split
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from knrollout.api import names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_ALL_STEPS = "full"
_MAX_TOKEN = 300
"""Annotations are written by hand too, and the status records them."""


@dataclass(frozen=True)
class Requests:
    promote: str = ""
    abort: str = ""
    retry: str = ""
    rerun: str = ""
    undo: str = ""
    take_over: str = ""

    @classmethod
    def parse(cls, annotations: Mapping[str, str]) -> Requests:
        return cls(
            promote=annotations.get(names.PROMOTE_ANNOTATION, ""),
            abort=annotations.get(names.ABORT_ANNOTATION, ""),
            retry=annotations.get(names.RETRY_ANNOTATION, ""),
            rerun=annotations.get(names.RERUN_ANNOTATION, ""),
            undo=annotations.get(names.UNDO_ANNOTATION, ""),
            take_over=annotations.get(names.TAKE_OVER_ANNOTATION, ""),
        )

    @property
    def tokens(self) -> tuple[str, ...]:
        """Each request as `<verb> <value>`, in a fixed order; what the status records as seen."""
        values = (
            ("promote", self.promote),
            ("abort", self.abort),
            ("retry", self.retry),
            ("rerun", self.rerun),
            ("undo", self.undo),
            ("take-over", self.take_over),
        )
        return tuple(f"{verb} {value}"[:_MAX_TOKEN] for verb, value in values if value)

    def unseen(self, observed: Collection[str] | None) -> list[str]:
        """The requests, in words, that are not among the observed tokens. None: what was observed is not known."""
        if observed is None:
            return []
        return [_in_words(token) for token in self.tokens if token not in observed]

    def promotes_step(self, revision: str | None, attempt: int, step: int) -> bool:
        return self.promote == step_token(revision, attempt, step)

    def promotes_in_full(self, revision: str | None, attempt: int) -> bool:
        return self.promote == all_steps_token(revision, attempt)

    def aborts(self, revision: str | None, attempt: int) -> bool:
        return self.abort == attempt_token(revision, attempt)

    def undo_target(self, latest_revision: str | None) -> str | None:
        revision, _, latest = self.undo.partition("/")
        return revision if revision and latest_revision is not None and latest == latest_revision else None

    def retry_target(self) -> tuple[str, int] | None:
        """(revision, attempt)."""
        revision, _, attempt = self.retry.partition("/")
        return (revision, int(attempt)) if revision and attempt.isdecimal() else None


def _in_words(token: str) -> str:
    verb, _, value = token.partition(" ")
    subject, _, detail = value.partition("/")
    match verb:
        case "promote":
            _, _, step = detail.partition("/")
            past = f"past step {int(step) + 1}" if step.isdecimal() else "in full"
            return f"promote {subject} {past}"
        case "undo":
            return f"undo to {subject}"
        case "rerun":
            return f"retry, which repeats {subject}"
        case "take-over":
            return "promote, which writes over the manual edit"
        case _:
            return f"{verb} {subject}"


def attempt_token(revision: str | None, attempt: int) -> str:
    return f"{revision}/{attempt}"


def step_token(revision: str | None, attempt: int, step: int) -> str:
    return f"{revision}/{attempt}/{step}"


def all_steps_token(revision: str | None, attempt: int) -> str:
    return f"{revision}/{attempt}/{_ALL_STEPS}"
