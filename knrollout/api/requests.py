"""What people ask of a rollout: annotations, each of which names what it is about.

A request is not consumed. It holds as long as what it names is still so, and means
nothing afterwards: repeated, late or twice, it does the same as once.

    promote   <revision>/<attempt>/<step>   pass this step; `full` for all that remain
    abort     <revision>/<attempt>          this attempt goes back to stable
    retry     <revision>/<attempt>          that attempt has ended: try the revision again
    rerun     <AnalysisRun>                 this run is of no use: measure again
    undo      <revision>/<latest>           go to that revision until one newer than latest is created
    take-over <serial>                      write over the hand edit that replaced this split
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from knrollout.api import names

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL = "full"


@dataclass(frozen=True)
class Requests:
    promote: str = ""
    abort: str = ""
    retry: str = ""
    rerun: str = ""
    undo: str = ""
    take_over: str = ""

    @classmethod
    def read(cls, annotations: Mapping[str, str]) -> Requests:
        return cls(
            promote=annotations.get(names.PROMOTE_ANNOTATION, ""),
            abort=annotations.get(names.ABORT_ANNOTATION, ""),
            retry=annotations.get(names.RETRY_ANNOTATION, ""),
            rerun=annotations.get(names.RERUN_ANNOTATION, ""),
            undo=annotations.get(names.UNDO_ANNOTATION, ""),
            take_over=annotations.get(names.TAKE_OVER_ANNOTATION, ""),
        )

    def passes(self, revision: str | None, attempt: int, step: int) -> bool:
        return self.promote == passing(revision, attempt, step)

    def passes_all(self, revision: str | None, attempt: int) -> bool:
        return self.promote == passing(revision, attempt, FULL)

    def undone_to(self, latest: str | None) -> str | None:
        revision, _, while_latest = self.undo.partition("/")
        return revision if revision and latest is not None and while_latest == latest else None

    def retried(self) -> tuple[str, int] | None:
        revision, _, attempt = self.retry.partition("/")
        return (revision, int(attempt)) if revision and attempt.isdecimal() else None


def of_attempt(revision: str | None, attempt: int) -> str:
    return f"{revision}/{attempt}"


def passing(revision: str | None, attempt: int, step: int | str) -> str:
    return f"{revision}/{attempt}/{step}"
