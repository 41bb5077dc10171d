"""What a `KnativeRollout` asks for. The same rules stand in argo/crd; a test holds the two against each other.

Field names, defaults and meanings are those of Argo Rollouts' canary strategy
(argoproj.io/v1alpha1), as far as Knative can do them. Whatever is not here is refused.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

# Go's duration as far as Argo documents it for steps; a bare number is seconds.
DURATION: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$|^[0-9]+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
FIELD_PATH: Final = r"^metadata\.(name|namespace|uid|(labels|annotations)\['[A-Za-z0-9./_-]{1,317}'\])$"
DNS_LABEL: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"

Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
TemplateName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Seconds = Annotated[int, Field(ge=0, le=2147483647, strict=True)]
Whole = Annotated[int, Field(strict=True)]


class Resource(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


def seconds(duration: str | int) -> float:
    """`1m30s` -> 90.0. The text fits DURATION."""
    text = str(duration)
    if text.isdecimal():
        return float(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _duration(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(DURATION, value):
        return value
    raise ValueError("a duration is a number of seconds, or such as 30s, 5m, 1h30m")


class WorkloadRef(Resource):
    """The Service that is released, in the namespace of the rollout."""

    api_version: Literal["serving.knative.dev/v1"] = "serving.knative.dev/v1"
    kind: Literal["Service"] = "Service"
    name: Name


class Pause(Resource):
    """Without a duration it waits until somebody promotes."""

    duration: Annotated[str | int, BeforeValidator(_duration)] | None = None


class TemplateRef(Resource):
    template_name: TemplateName
    cluster_scope: Annotated[bool, Field(strict=True)] = False


class FieldRef(Resource):
    field_path: Annotated[str, StringConstraints(pattern=FIELD_PATH, max_length=343)]


class ValueFrom(Resource):
    """podTemplateHashValue keeps Argo's word; a revision has no such hash, so it gives the revision's name."""

    pod_template_hash_value: Literal["Stable", "Latest"] | None = None
    field_ref: FieldRef | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ValueFrom:
        if (self.pod_template_hash_value is None) == (self.field_ref is None):
            raise ValueError("exactly one of podTemplateHashValue and fieldRef")
        return self


class Arg(Resource):
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    value: Annotated[str, StringConstraints(max_length=4096)] | None = None
    value_from: ValueFrom | None = None

    @model_validator(mode="after")
    def _one_value(self) -> Arg:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("exactly one of value and valueFrom")
        return self


class Analysis(Resource):
    templates: Annotated[tuple[TemplateRef, ...], Field(min_length=1, max_length=20)]
    args: Annotated[tuple[Arg, ...], Field(max_length=50)] = ()


class BackgroundAnalysis(Analysis):
    """Runs beside the steps from startingStep on, counted from 0."""

    starting_step: Annotated[int, Field(ge=0, le=99, strict=True)] = 0


class Step(Resource):
    set_weight: Annotated[int, Field(ge=0, le=100, strict=True)] | None = None
    pause: Pause | None = None
    analysis: Analysis | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        if sum(part is not None for part in (self.set_weight, self.pause, self.analysis)) != 1:
            raise ValueError("a step is exactly one of setWeight, pause and analysis")
        return self


class Canary(Resource):
    """The two delays say how long a revision keeps its tag, and with it what min-scale asks for.

    scaleDownDelaySeconds: the old stable after a promotion. abortScaleDownDelaySeconds: the
    canary after an abort; 0 keeps it until the next release.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=100)]
    analysis: BackgroundAnalysis | None = None
    scale_down_delay_seconds: Seconds = 30
    abort_scale_down_delay_seconds: Seconds = 30

    @model_validator(mode="after")
    def _starts_within(self) -> Canary:
        if self.analysis and self.analysis.starting_step >= len(self.steps):
            raise ValueError("analysis.startingStep is not one of the steps")
        return self


class Strategy(Resource):
    canary: Canary


class RollbackWindow(Resource):
    revisions: Annotated[int, Field(ge=1, le=100, strict=True)]


class RunHistory(Resource):
    """How many finished AnalysisRuns of earlier attempts are kept."""

    successful_run_history_limit: Annotated[int, Field(ge=0, le=100, strict=True)] = 5
    unsuccessful_run_history_limit: Annotated[int, Field(ge=0, le=100, strict=True)] = 5


class Spec(Resource):
    """progressDeadlineAbort is true here and false in Argo: a revision that never gets ready goes back."""

    workload_ref: WorkloadRef
    strategy: Strategy
    paused: Annotated[bool, Field(strict=True)] = False
    progress_deadline_seconds: Annotated[int, Field(ge=1, le=2147483647, strict=True)] = 600
    progress_deadline_abort: Annotated[bool, Field(strict=True)] = True
    rollback_window: RollbackWindow | None = None
    revision_history_limit: Annotated[int, Field(ge=1, le=100, strict=True)] = 10
    analysis: RunHistory = RunHistory()
