"""A rollout as people see it, in the terminal or on query's pages: its steps, revisions, runs and possible commands.

The names of the fields of StepView, RevisionView, RunView and of the classes within them are those of query's JSON API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from knrollout.api.commands import available_commands
from knrollout.api.objects import AnalysisRun, Revision, Service
from knrollout.api.rollout import Rollout, parse_rollout, parse_status, service_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
    """now: a run of the current step or the background run. Other runs of the attempt are over."""

    run: AnalysisRun
    now: bool

    @property
    def phase(self) -> str:
        return self.run.phase or "not started"


@dataclass(frozen=True)
class RevisionView:
    """part: stable, canary or aborted; empty for a revision that only has a tag. percent: its share of the Route."""

    name: str
    part: str
    percent: int
    tags: tuple[str, ...]
    ready: bool
    message: str
    runs: tuple[RunView, ...] = ()


@dataclass(frozen=True)
class RolloutView:
    """background_templates: analysed in parallel to the steps. commands: those available now, by verb."""

    namespace: str
    name: str
    service: str
    created: str
    status: Status
    steps: tuple[StepView, ...]
    background_templates: tuple[str, ...]
    revisions: tuple[RevisionView, ...]
    commands: Mapping[str, Command]


@dataclass(frozen=True)
class RolloutSummary:
    """One row of a list. needs_attention: without a person the release stays as it is."""

    namespace: str
    name: str
    service: str
    created: str
    status: Status
    step: int
    steps: int
    needs_attention: bool


def summarize(document: Document) -> RolloutSummary:
    status, metadata = parse_status(document), document["metadata"]
    steps = document["spec"].get("strategy", {}).get("canary", {}).get("steps", ())
    return RolloutSummary(
        namespace=metadata["namespace"],
        name=metadata["name"],
        service=service_name(document) or "",
        created=metadata["creationTimestamp"],
        status=status,
        step=min(status.current_step_index, len(steps)),
        steps=len(steps),
        needs_attention=_needs_attention(status, steps),
    )


def _needs_attention(status: Status, steps: Sequence[Document]) -> bool:
    """A pause with a duration ends by itself."""
    if status.phase != "Paused" or status.reason != "CanaryPauseStep":
        return status.phase in {"Paused", "Degraded"}
    step = steps[status.current_step_index] if status.current_step_index < len(steps) else {}
    return (step.get("pause") or {}).get("duration") is None


def read_view(cluster: Cluster, document: Document) -> RolloutView:
    """document is the rollout; its Service, revisions and runs are read. Raises ClusterError."""
    status, metadata = parse_status(document), document["metadata"]
    namespace, name, workload = metadata["namespace"], metadata["name"], service_name(document) or ""
    service = cluster.service(namespace, workload)
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
        steps=_step_views(canary, status),
        background_templates=_background_templates(canary),
        revisions=tuple(
            _revision_views(revisions, Service.parse(service) if service else None, status, runs)
        ),
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
            runs=tuple(_run_views(runs, status)) if revision.name == status.canary_revision else (),
        )
        if view.part or view.percent or view.tags:
            yield view


def _run_views(runs: Sequence[AnalysisRun], status: Status) -> Iterator[RunView]:
    current = {run.name for run in (status.step_run, status.background_run) if run}
    for run in sorted(runs, key=lambda run: (run.created, run.name)):
        if run.attempt == status.attempt and status.attempt:
            yield RunView(run, run.name in current)


def _part(revision: str, status: Status) -> str:
    if revision == status.stable_revision:
        return "stable"
    if revision == status.canary_revision:
        return "aborted" if status.aborted else "canary"
    return ""
