"""What the controller remembers. Nothing else is remembered: another controller goes on from here."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from knrollout.api.spec import Resource, Whole

if TYPE_CHECKING:
    from typing import Self

Phase = Literal["Healthy", "Progressing", "Paused", "Degraded"]
PauseReason = Literal[
    "CanaryPauseStep",
    "InconclusiveAnalysisRun",
    "AnalysisRunError",
    "NothingMeasured",
    "TrafficEdited",
    "AnalysisNotPossible",
    "ProgressDeadlineExceeded",
    "UserPaused",
]
Outcome = Literal["Adopted", "Promoted", "Aborted", "Superseded", "Restarted", "Undone"]
Percent = Annotated[int, Field(ge=0, le=100, strict=True)]
ALL: Final = 100


class Recorded(Resource):
    def but(self, **changes: Any) -> Self:  # noqa: ANN401 - the fields' own types
        """A copy with other values; a name that is no field is an error."""
        unknown = changes.keys() - type(self).model_fields.keys()
        if unknown:
            raise TypeError(f"no such fields: {sorted(unknown)}")
        return self.model_copy(update=changes)


class Split(Recorded):
    """How traffic is shared: weight goes to the canary, the rest to stable; previous only keeps its address.

    over: what stands in the Service is replaced, whoever wrote it.
    """

    serial: Whole
    stable: str
    canary: str | None = None
    weight: Percent = 0
    previous: str | None = None
    over: bool = False


class PauseCondition(Recorded):
    reason: PauseReason
    start_time: datetime
    message: str = ""


class RunStatus(Recorded):
    """name is decided before the run exists; phase is what was last seen of it."""

    name: str
    number: Whole
    phase: str = ""
    message: str = ""


class Aborted(Recorded):
    at: datetime
    reason: str
    message: str


class Attempt(Recorded):
    """One finished try to release a revision."""

    revision: str
    attempt: Whole
    outcome: Outcome
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime


class Condition(Recorded):
    type: Literal["Healthy", "Paused", "Aborted", "TrafficAsWritten"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: datetime


class Status(Recorded):
    """canaryRevision is the revision of the latest attempt; it is the stable one once promoted.

    applied is the split last seen in the Service; pending are those decided since, newest last.
    """

    observed_generation: Whole = 0
    phase: Phase = "Progressing"
    reason: str = ""
    message: str = ""
    stable_revision: str | None = None
    canary_revision: str | None = None
    attempt: Whole = 0
    started_at: datetime | None = None
    steps_hash: str | None = None
    current_step_index: Annotated[int, Field(ge=0, strict=True)] = 0
    current_step_started_at: datetime | None = None
    weight: Percent = 0
    stalled_since: datetime | None = None
    promote_full: bool = False
    step_run: RunStatus | None = None
    background_run: RunStatus | None = None
    pause_conditions: tuple[PauseCondition, ...] = ()
    aborted: Aborted | None = None
    retained_until: datetime | None = None
    serial: Whole = 0
    applied: Split | None = None
    pending: tuple[Split, ...] = ()
    canary_address: str | None = None
    history: tuple[Attempt, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def active(self) -> bool:
        """A revision is on its way to become stable."""
        return self.aborted is None and self.canary_revision not in {None, self.stable_revision}

    @property
    def wanted(self) -> Split | None:
        return self.pending[-1] if self.pending else self.applied

    def last_attempt(self, revision: str) -> Attempt | None:
        return next((entry for entry in reversed(self.history) if entry.revision == revision), None)

    def was_stable(self, revision: str) -> bool:
        return any(
            entry.revision == revision and entry.outcome in {"Adopted", "Promoted"} for entry in self.history
        )
