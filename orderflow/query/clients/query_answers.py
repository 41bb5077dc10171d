"""Whether two revisions of query give the same answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from orderflow.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TIMEOUT_SECONDS: Final = 5.0
_LISTS: Final = ("/api/orders?limit=20", "/api/parked?limit=20", "/api/outcomes")
_OWN: Final = frozenset({"older", "newer"})
"""The tokens of pages: their form is a revision's own."""


@dataclass(slots=True)
class AnswersCompared:
    """paths are those of answers that differ. failure: why stable could not be asked."""

    compared: int = 0
    paths: list[str] = field(default_factory=list)
    failure: str = ""


class QueryRevisions:
    def __init__(self, url: str, canary: str, stable: str, authorization: str) -> None:
        """url has {revision} for the name of a revision. authorization is the header of whoever asks."""
        self._canary = url.format(revision=canary)
        self._stable = url.format(revision=stable)
        self._headers = {"Authorization": authorization, "User-Agent": user_agent("orderflow")}

    def compare(self, order_ids: Sequence[str]) -> AnswersCompared:
        """Stable is asked before and after the canary: where its own answer changes, nothing is compared."""
        result = AnswersCompared()
        for path in (*_LISTS, *(f"/api/orders/{quote(order_id, safe='')}" for order_id in order_ids)):
            try:
                before = self._answer(self._stable, path)
                canary = self._answer(self._canary, path)
                after = self._answer(self._stable, path)
            except OSError as error:
                result.failure = f"a revision cannot be reached ({type(error).__name__})"
                return result
            if before != after or before[0] >= HTTPStatus.INTERNAL_SERVER_ERROR:
                continue
            result.compared += 1
            if before[0] != canary[0] or any(_differences(before[1], canary[1])):
                result.paths.append(path)
        return result

    def _answer(self, address: str, path: str) -> tuple[int, Any]:
        request = Request(address + path, headers=self._headers)  # noqa: S310 - the address is a setting
        try:
            with urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the same
                return response.status, json.load(response)
        except HTTPError as error:
            return error.code, None
        except ValueError:
            return 0, None


def _differences(stable: object, canary: object) -> Iterator[object]:
    """What stable's answer has and the canary's has not. A member that only the canary's has is none."""
    if isinstance(stable, dict) and isinstance(canary, dict):
        for name in stable.keys() - _OWN:
            if name in canary:
                yield from _differences(stable[name], canary[name])
            else:
                yield name
    elif isinstance(stable, list) and isinstance(canary, list) and len(stable) == len(canary):
        for one, other in zip(stable, canary, strict=True):
            yield from _differences(one, other)
    elif stable != canary:
        yield stable
