"""What the state of an AnalysisRun means for the release."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from knrollout.api.objects import AnalysisRun


class RunVerdict(Enum):
    WAITING = auto()
    PASSED = auto()
    FAILED = auto()
    ERROR = auto()
    INCONCLUSIVE = auto()
    NOTHING_MEASURED = auto()
    NOT_STARTED = auto()

    @property
    def has_no_result(self) -> bool:
        """The run has ended and says neither good nor bad: it never promotes, and a person decides."""
        return self in {RunVerdict.ERROR, RunVerdict.INCONCLUSIVE, RunVerdict.NOTHING_MEASURED}


def judge(run: AnalysisRun | None, now: datetime, start_deadline: timedelta) -> RunVerdict:
    """Argo ends a run as Successful if it is terminated before it has measured. Such a run proves nothing."""
    if run is None:
        return RunVerdict.WAITING
    if run.phase == "Successful":
        return RunVerdict.PASSED if run.measured and not run.terminated else RunVerdict.NOTHING_MEASURED
    if not run.finished:
        is_late = run.phase in {"", "Pending"} and now - run.created > start_deadline
        return RunVerdict.NOT_STARTED if is_late else RunVerdict.WAITING
    return {"Failed": RunVerdict.FAILED, "Error": RunVerdict.ERROR}.get(run.phase, RunVerdict.INCONCLUSIVE)
