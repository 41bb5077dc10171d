"""A rollout as people look at it, in the terminal or on a page: its steps, revisions, runs, and what may be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from knrollout.api import commands
from knrollout.api.commands import RefusedError
from knrollout.api.objects import Revision, Run, Service
from knrollout.api.spec import Spec
from knrollout.cluster.reader import service_name, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from knrollout.api.commands import Ask
    from knrollout.api.objects import Document
    from knrollout.api.spec import Step
    from knrollout.api.status import Status
    from knrollout.cluster.port import Cluster

StepState = Literal["passed", "current", "to come", "skipped"]
VERBS: Final[Mapping[str, Callable[[Document], Ask]]] = {
    "promote": lambda document: commands.promote(document, full=False),
    "promote-full": lambda document: commands.promote(document, full=True),
    "pause": commands.pause,
    "retry": commands.retry,
    "abort": commands.abort,
}
"""What can be asked for with a rollout alone; undo needs a revision to go to."""


@dataclass(frozen=True)
class StepShown:
    words: str
    state: StepState


@dataclass(frozen=True)
class RevisionShown:
    """part: stable, canary, aborted, or nothing where it has only a tag. percent is what its Route gives it."""

    name: str
    part: str
    percent: int
    tags: tuple[str, ...]
    ready: bool
    message: str
    runs: tuple[RunShown, ...] = ()


@dataclass(frozen=True)
class RunShown:
    """now: what the release waits for or is watched by; others were left behind."""

    run: Run
    now: bool

    @property
    def phase(self) -> str:
        return self.run.phase or "not started"


@dataclass(frozen=True)
class Picture:
    """asks: what can be asked for now, by verb, with what it would do."""

    namespace: str
    name: str
    service: str
    created: str
    status: Status
    steps: tuple[StepShown, ...]
    analysed_beside: tuple[str, ...]
    revisions: tuple[RevisionShown, ...]
    asks: Mapping[str, Ask]


@dataclass(frozen=True)
class Line:
    """A rollout in a list of them. needs_a_hand: nothing more happens by itself."""

    namespace: str
    name: str
    service: str
    created: str
    status: Status
    step: int
    steps: int
    needs_a_hand: bool


def line(document: Document) -> Line:
    status, metadata = status_of(document), document["metadata"]
    steps = document["spec"].get("strategy", {}).get("canary", {}).get("steps", ())
    return Line(
        namespace=metadata["namespace"],
        name=metadata["name"],
        service=service_name(document) or "",
        created=metadata["creationTimestamp"],
        status=status,
        step=min(status.current_step_index, len(steps)),
        steps=len(steps),
        needs_a_hand=_needs_a_hand(status, steps),
    )


def picture(cluster: Cluster, document: Document) -> Picture:
    """What the cluster says of the rollout now. Raises ClusterError."""
    status, metadata = status_of(document), document["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    found = cluster.service(namespace, service_name(document) or "")
    service = Service.read(found) if found is not None else None
    revisions = [Revision.read(r) for r in cluster.revisions(namespace, service_name(document) or "")]
    runs = [Run.read(run) for run in cluster.runs(namespace, name)]
    shown = (
        _revision(revision, service, status, runs)
        for revision in sorted(revisions, key=lambda revision: -revision.generation)
    )
    steps, beside = _planned(document, status)
    return Picture(
        namespace=namespace,
        name=name,
        service=service_name(document) or "",
        created=metadata["creationTimestamp"],
        status=status,
        steps=steps,
        analysed_beside=beside,
        revisions=tuple(revision for revision in shown if revision.part or revision.percent or revision.tags),
        asks=asks(document),
    )


def asks(document: Document) -> dict[str, Ask]:
    """Only what would change something."""
    found: dict[str, Ask] = {}
    for verb, ask in VERBS.items():
        try:
            asked = ask(document)
        except RefusedError:
            continue
        if not asked.empty and (verb != "pause" or status_of(document).active):
            found[verb] = asked
    return found


def _needs_a_hand(status: Status, steps: Sequence[Document]) -> bool:
    """A pause that has a duration ends by itself."""
    if status.phase != "Paused" or status.reason != "CanaryPauseStep":
        return status.phase in {"Paused", "Degraded"}
    here = steps[status.current_step_index] if status.current_step_index < len(steps) else {}
    return (here.get("pause") or {}).get("duration") is None


def _planned(document: Document, status: Status) -> tuple[tuple[StepShown, ...], tuple[str, ...]]:
    try:
        canary = Spec.model_validate(document["spec"]).strategy.canary
    except ValidationError:
        return (), ()  # the status says what is wrong with it
    steps = tuple(StepShown(_words(step), _state(place, status)) for place, step in enumerate(canary.steps))
    beside = tuple(ref.template_name for ref in canary.analysis.templates) if canary.analysis else ()
    return steps, beside


def _state(place: int, status: Status) -> StepState:
    """Of a release that was aborted or promoted in full, what it had not reached is never to come."""
    if place < status.current_step_index and not (status.promote_full and not status.active):
        return "passed"
    if status.active and not status.promote_full:
        return "current" if place == status.current_step_index else "to come"
    return "skipped"


def _words(step: Step) -> str:
    if step.set_weight is not None:
        return f"{step.set_weight} % of the traffic"
    if step.pause is not None:
        duration = step.pause.duration
        unit = " s" if isinstance(duration, int) or (duration or "").isdecimal() else ""
        return "pause until promoted" if duration is None else f"pause for {duration}{unit}"
    assert step.analysis is not None  # noqa: S101 - a step is exactly one of the three
    return "analysis " + ", ".join(ref.template_name for ref in step.analysis.templates)


def _revision(
    revision: Revision, service: Service | None, status: Status, runs: Sequence[Run]
) -> RevisionShown:
    entries = [e for e in service.actual if e.revision == revision.name] if service else []
    return RevisionShown(
        name=revision.name,
        part=_part(revision.name, status),
        percent=sum(entry.percent for entry in entries),
        tags=tuple(entry.tag for entry in entries if entry.tag),
        ready=revision.ready,
        message=revision.message,
        runs=tuple(_runs(runs, status)) if revision.name == status.canary_revision else (),
    )


def _runs(runs: Sequence[Run], status: Status) -> Iterator[RunShown]:
    current = {one.name for one in (status.step_run, status.background_run) if one}
    for run in sorted(runs, key=lambda run: (run.created, run.name)):
        if run.attempt == status.attempt and status.attempt:
            yield RunShown(run, run.name in current)


def _part(revision: str, status: Status) -> str:
    if revision == status.stable_revision:
        return "stable"
    if revision == status.canary_revision:
        return "aborted" if status.aborted else "canary"
    return ""
