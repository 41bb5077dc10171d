"""A rollout as people see it, in the terminal or on query's pages: its steps, revisions, runs and possible commands.

The names of the fields of StepView, RevisionView, RunView and of the classes within them are those of query's JSON API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from knrollout.api.commands import available_commands
from knrollout.api.objects import AnalysisRun, Revision, Service
from knrollout.api.rollout import Rollout, parse_rollout, service_name
from knrollout.api.visible_status import is_paused_at_rest, visible_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from knrollout.api.commands import Command
    from knrollout.api.objects import Document
    from knrollout.api.spec import Canary, Step
    from knrollout.api.status import Status
    from knrollout.cluster.port import Cluster

StepState = Literal["passed", "current", "to come", "skipped"]


@dataclass(frozen=True)
class StepView:
    """words: the step as a phrase, such as `pause for 5m`."""

    words: str
    state: StepState


@dataclass(frozen=True)
class RunView:
    """now: a run of the current step or the background run. Other runs of the attempt are over.

    sentence: what the last measurements that decided say, with their figures; empty before the first one.
    """

    run: AnalysisRun
    now: bool
    sentence: str

    @property
    def phase(self) -> str:
        return self.run.phase or "not started"


@dataclass(frozen=True)
class RevisionView:
    """part: stable, canary or aborted; empty for a revision that only has a tag or runs of the latest attempt.

    percent: its share of the Route.
    """

    name: str
    part: str
    percent: int
    tags: tuple[str, ...]
    ready: bool
    message: str
    runs: tuple[RunView, ...] = ()


@dataclass(frozen=True)
class RolloutView:
    """status: as people should see it. background_templates: analysed in parallel to the steps. commands: those
    available now, by verb.

    step: of all steps, counted from 1. canary_started_at: when the canary of this attempt first got a share.
    weight_changed_at: when the Route had taken up the present share; None while it is being moved. withheld: a first
    sign of harm has taken the share back to 0; status.message says which.
    """

    namespace: str
    name: str
    service: str
    created: str
    status: Status
    step: int
    steps: tuple[StepView, ...]
    canary_started_at: datetime | None
    weight_changed_at: datetime | None
    withheld: bool
    paused_at_rest: bool
    background_templates: tuple[str, ...]
    revisions: tuple[RevisionView, ...]
    commands: Mapping[str, Command]


@dataclass(frozen=True)
class RolloutSummary:
    """One row of a list. needs_attention: without a person the release, or the next one, stays as it is.

    step: counted from 1. paused_at_rest: no release is in progress, and the next one will be paused.
    """

    namespace: str
    name: str
    service: str
    created: str
    status: Status
    step: int
    steps: int
    needs_attention: bool
    paused_at_rest: bool


def summarize(document: Document) -> RolloutSummary:
    """From the rollout alone, so that a list is one request. A new revision that is not seen yet is not known."""
    status, metadata = visible_status(document, None), document["metadata"]
    paused_at_rest = is_paused_at_rest(document, status)
    steps = document["spec"].get("strategy", {}).get("canary", {}).get("steps", ())
    return RolloutSummary(
        namespace=metadata["namespace"],
        name=metadata["name"],
        service=service_name(document) or "",
        created=metadata["creationTimestamp"],
        status=status,
        step=status.step_number(len(steps)),
        steps=len(steps),
        needs_attention=paused_at_rest or _needs_attention(status, steps),
        paused_at_rest=paused_at_rest,
    )


def _needs_attention(status: Status, steps: Sequence[Document]) -> bool:
    """A pause with a duration ends by itself."""
    if status.phase != "Paused" or status.reason != "CanaryPauseStep":
        return status.phase in {"Paused", "Degraded"}
    step = steps[status.current_step_index] if status.current_step_index < len(steps) else {}
    return (step.get("pause") or {}).get("duration") is None


def read_view(cluster: Cluster, document: Document) -> RolloutView:
    """document is the rollout; its Service, revisions and runs are read. Raises ClusterError."""
    metadata, workload = document["metadata"], service_name(document) or ""
    namespace, name = metadata["namespace"], metadata["name"]
    service_document = cluster.service(namespace, workload)
    service = Service.parse(service_document) if service_document is not None else None
    status = visible_status(document, service)
    revisions = [Revision.parse(each) for each in cluster.revisions(namespace, workload)]
    runs = [AnalysisRun.parse(each) for each in cluster.runs(namespace, name)]
    rollout = parse_rollout(document)
    # Where the spec is invalid, the status says so.
    canary = rollout.canary if isinstance(rollout, Rollout) else None
    return RolloutView(
        namespace=namespace,
        name=name,
        service=workload,
        created=metadata["creationTimestamp"],
        status=status,
        step=status.step_number(len(canary.steps) if canary is not None else 0),
        steps=_step_views(canary, status),
        canary_started_at=status.canary_started_at,
        weight_changed_at=status.weight_changed_at,
        withheld=status.withheld,
        paused_at_rest=is_paused_at_rest(document, status),
        background_templates=_background_templates(canary),
        revisions=tuple(_revision_views(revisions, service, status, runs)),
        commands=available_commands(document),
    )


def _step_views(canary: Canary | None, status: Status) -> tuple[StepView, ...]:
    steps = canary.steps if canary is not None else ()
    return tuple(StepView(_phrase(step), _state(index, status)) for index, step in enumerate(steps))


def _background_templates(canary: Canary | None) -> tuple[str, ...]:
    analysis = canary.analysis if canary is not None else None
    return tuple(ref.template_name for ref in analysis.templates) if analysis is not None else ()


def _state(index: int, status: Status) -> StepState:
    """Steps that an aborted or fully promoted release did not reach are skipped."""
    if index < status.current_step_index and not (status.promote_full and not status.active):
        return "passed"
    if status.active and not status.promote_full:
        return "current" if index == status.current_step_index else "to come"
    return "skipped"


def _phrase(step: Step) -> str:
    if step.set_weight is not None:
        return f"{step.set_weight} % of the traffic"
    if step.pause is not None:
        duration = step.pause.duration
        unit = " s" if isinstance(duration, int) or (duration or "").isdecimal() else ""
        return "pause until promoted" if duration is None else f"pause for {duration}{unit}"
    assert step.analysis is not None  # noqa: S101 - a step is exactly one of the three
    return "analysis " + ", ".join(ref.template_name for ref in step.analysis.templates)


def _revision_views(
    revisions: Sequence[Revision], service: Service | None, status: Status, runs: Sequence[AnalysisRun]
) -> Iterator[RevisionView]:
    """The newest first; only those that are part of the release or appear in the Route."""
    traffic = service.status_traffic if service is not None else ()
    for revision in sorted(revisions, key=lambda revision: -revision.generation):
        entries = [entry for entry in traffic if entry.revision == revision.name]
        view = RevisionView(
            name=revision.name,
            part=_part(revision.name, status),
            percent=sum(entry.percent for entry in entries),
            tags=tuple(entry.tag for entry in entries if entry.tag),
            ready=revision.ready,
            message=revision.message,
            runs=tuple(_run_views(revision.name, runs, status)),
        )
        if view.part or view.percent or view.tags or view.runs:
            yield view


def _run_views(revision: str, runs: Sequence[AnalysisRun], status: Status) -> Iterator[RunView]:
    """Those of the latest attempt. An undo to the stable revision ends an attempt and starts none."""
    current = {run.name for run in (status.step_run, status.background_run) if run}
    for run in sorted(runs, key=lambda run: (run.created, run.name)):
        if run.revision == revision and run.attempt == status.attempt and status.attempt:
            yield RunView(run, run.name in current, run.sentences)


def _part(revision: str, status: Status) -> str:
    if revision == status.stable_revision:
        return "stable"
    if revision == status.canary_revision:
        return "aborted" if status.aborted else "canary"
    return ""
