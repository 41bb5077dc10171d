"""The spec of a KnativeRollout. argo/crd declares the same rules for admission; a test compares the two.

Field names, defaults and meanings are those of Argo Rollouts' canary strategy (argoproj.io/v1alpha1), as far as a
Knative Service supports them. All other fields are refused. The docstrings of the models are the descriptions in the
CustomResourceDefinition.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from knrollout.api.duration import validate_duration

FIELD_PATH: Final = (
    r"^(metadata\.(name|namespace|uid|(labels|annotations)\['[A-Za-z0-9./_-]{1,317}'\])"
    r"|status\.(canaryStartedAt|weightChangedAt|weight))$"
)
DNS_LABEL: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"

Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
TemplateName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Seconds = Annotated[int, Field(ge=0, le=2147483647, strict=True)]


class ApiModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class WorkloadRef(ApiModel):
    """The Service to release. It is in the namespace of the rollout."""

    api_version: Literal["serving.knative.dev/v1"] = "serving.knative.dev/v1"
    kind: Literal["Service"] = "Service"
    name: Name


class Pause(ApiModel):
    """Without a duration the release waits until a person promotes it."""

    duration: Annotated[str | int, BeforeValidator(validate_duration)] | None = None


class TemplateRef(ApiModel):
    template_name: TemplateName
    cluster_scope: Annotated[bool, Field(strict=True)] = False


class FieldRef(ApiModel):
    """A field of the rollout: metadata.name, namespace, uid, a label or an annotation; or of its status:
    canaryStartedAt, weightChangedAt (both RFC 3339, in UTC) or weight (percent), as they are when the run starts.
    """

    field_path: Annotated[str, StringConstraints(pattern=FIELD_PATH, max_length=343)]


class ValueFrom(ApiModel):
    """podTemplateHashValue: Argo's field name. A revision has no such hash; the value is the name of the revision."""

    pod_template_hash_value: Literal["Stable", "Latest"] | None = None
    field_ref: FieldRef | None = None

    @model_validator(mode="after")
    def _exactly_one_source(self) -> ValueFrom:
        if (self.pod_template_hash_value is None) == (self.field_ref is None):
            raise ValueError("exactly one of podTemplateHashValue and fieldRef")
        return self


class Arg(ApiModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    value: Annotated[str, StringConstraints(max_length=4096)] | None = None
    value_from: ValueFrom | None = None

    @model_validator(mode="after")
    def _exactly_one_value(self) -> Arg:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("exactly one of value and valueFrom")
        return self


class Analysis(ApiModel):
    templates: Annotated[tuple[TemplateRef, ...], Field(min_length=1, max_length=20)]
    args: Annotated[tuple[Arg, ...], Field(max_length=50)] = ()


class BackgroundAnalysis(Analysis):
    """Runs in parallel to the steps, from step startingStep on. Steps are counted from 0."""

    starting_step: Annotated[int, Field(ge=0, le=99, strict=True)] = 0


class Step(ApiModel):
    set_weight: Annotated[int, Field(ge=0, le=100, strict=True)] | None = None
    pause: Pause | None = None
    analysis: Analysis | None = None

    @model_validator(mode="after")
    def _exactly_one_kind(self) -> Step:
        if sum(kind is not None for kind in (self.set_weight, self.pause, self.analysis)) != 1:
            raise ValueError("a step is exactly one of setWeight, pause and analysis")
        return self


class Canary(ApiModel):
    """The two delays: how long a revision keeps its tag, and with the tag the replicas that its min-scale asks for.

    scaleDownDelaySeconds: for the old stable revision, after a promotion. abortScaleDownDelaySeconds: for the canary,
    after an abort; 0 keeps the tag until the next release.

    onInconclusive: what an inconclusive analysis does. A pause keeps the share, except where the analysis shows a first
    sign of harm: a failed measurement, or `"harm": true` in a measurement's JSON object. The share is then 0 until a
    person decides.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=100)]
    analysis: BackgroundAnalysis | None = None
    on_inconclusive: Literal["pause", "abort"] = "pause"
    scale_down_delay_seconds: Seconds = 30
    abort_scale_down_delay_seconds: Seconds = 30

    @model_validator(mode="after")
    def _starts_at_a_step(self) -> Canary:
        if self.analysis and self.analysis.starting_step >= len(self.steps):
            raise ValueError("analysis.startingStep is not one of the steps")
        return self

    def analyses(self) -> list[Analysis]:
        """Those of the steps, then the background analysis."""
        analyses = [step.analysis for step in self.steps if step.analysis is not None]
        return [*analyses, self.analysis] if self.analysis is not None else analyses


class Strategy(ApiModel):
    canary: Canary


class RollbackWindow(ApiModel):
    revisions: Annotated[int, Field(ge=1, le=100, strict=True)]


class RunHistory(ApiModel):
    """How many finished AnalysisRuns of earlier attempts are kept."""

    successful_run_history_limit: Annotated[int, Field(ge=0, le=100, strict=True)] = 5
    unsuccessful_run_history_limit: Annotated[int, Field(ge=0, le=100, strict=True)] = 5


class Spec(ApiModel):
    """progressDeadlineAbort defaults to true, unlike in Argo: a revision that never becomes ready is aborted."""

    workload_ref: WorkloadRef
    strategy: Strategy
    paused: Annotated[bool, Field(strict=True)] = False
    progress_deadline_seconds: Annotated[int, Field(ge=1, le=2147483647, strict=True)] = 600
    progress_deadline_abort: Annotated[bool, Field(strict=True)] = True
    rollback_window: RollbackWindow | None = None
    revision_history_limit: Annotated[int, Field(ge=1, le=100, strict=True)] = 10
    analysis: RunHistory = RunHistory()
