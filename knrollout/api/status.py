"""The status of a KnativeRollout. It is all that the controller remembers: any replica continues from it.

The docstrings of the models are the descriptions in the CustomResourceDefinition.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, StrictInt

from knrollout.api.spec import ApiModel

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
FULL_WEIGHT: Final = 100


class StatusModel(ApiModel):
    def replace(self, **changes: Any) -> Self:  # noqa: ANN401 - the fields' own types
        """A copy with changed fields. An unknown field is a TypeError."""
        unknown = changes.keys() - type(self).model_fields.keys()
        if unknown:
            raise TypeError(f"no such fields: {sorted(unknown)}")
        return self.model_copy(update=changes)


class Split(StatusModel):
    """How traffic is split: weight percent to the canary, the rest to stable; previous has an address and no traffic.

    over: the split replaces the traffic of the Service even if somebody else edited it.
    """

    serial: StrictInt
    stable: str
    canary: str | None = None
    weight: Percent = 0
    previous: str | None = None
    over: bool = False


class PauseCondition(StatusModel):
    reason: PauseReason
    start_time: datetime
    message: str = ""


class RunStatus(StatusModel):
    """name is chosen before the AnalysisRun is created; phase is the last one observed."""

    name: str
    number: StrictInt
    phase: str = ""
    message: str = ""


class AbortStatus(StatusModel):
    at: datetime
    reason: str
    message: str


class Attempt(StatusModel):
    """One finished attempt to release a revision."""

    revision: str
    attempt: StrictInt
    outcome: Outcome
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime


class Condition(StatusModel):
    type: Literal["Healthy", "Paused", "Aborted", "TrafficAsWritten"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: datetime


class Status(StatusModel):
    """canaryRevision is the revision of the latest attempt; once promoted it equals stableRevision.

    applied is the split last seen in the Service; pending are the splits decided since then, newest last.
    canaryStartedAt is when this attempt first decided on a weight above 0. weightChangedAt is when the Route had
    taken up the present weight. observedRequests are the requests of people that this status takes into account.
    """

    observed_generation: StrictInt = 0
    observed_requests: tuple[str, ...] | None = None
    phase: Phase = "Progressing"
    reason: str = ""
    message: str = ""
    stable_revision: str | None = None
    canary_revision: str | None = None
    attempt: StrictInt = 0
    started_at: datetime | None = None
    steps_hash: str | None = None
    current_step_index: Annotated[int, Field(ge=0, strict=True)] = 0
    current_step_started_at: datetime | None = None
    weight: Percent = 0
    canary_started_at: datetime | None = None
    weight_changed_at: datetime | None = None
    stalled_since: datetime | None = None
    promote_full: bool = False
    step_run: RunStatus | None = None
    background_run: RunStatus | None = None
    pause_conditions: tuple[PauseCondition, ...] = ()
    aborted: AbortStatus | None = None
    retained_until: datetime | None = None
    serial: StrictInt = 0
    applied: Split | None = None
    pending: tuple[Split, ...] = ()
    canary_address: str | None = None
    history: tuple[Attempt, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def active(self) -> bool:
        """A release is in progress: the canary is neither aborted nor stable yet."""
        return self.aborted is None and self.canary_revision not in {None, self.stable_revision}

    @property
    def newest_split(self) -> Split | None:
        return self.pending[-1] if self.pending else self.applied

    @property
    def share(self) -> int:
        """The canary's percent as it is written to the Service: 0 while the weight is withheld."""
        split = self.newest_split
        return min(self.weight, split.weight) if self.active and split is not None else self.weight

    @property
    def withheld(self) -> bool:
        """A first sign of harm takes the share back to 0; the weight is kept for a person to decide."""
        return self.share < self.weight

    def step_number(self, steps: int) -> int:
        """The step where the release is or ended, counted from 1."""
        return min(self.current_step_index + 1, steps)

    def last_attempt(self, revision: str) -> Attempt | None:
        return next((entry for entry in reversed(self.history) if entry.revision == revision), None)

    def was_stable(self, revision: str) -> bool:
        return any(
            entry.revision == revision and entry.outcome in {"Adopted", "Promoted"} for entry in self.history
        )
