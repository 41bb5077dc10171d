"""What is to be done in the cluster for a status that is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from knrollout.api.status import ALL
from knrollout.decide import traffic
from knrollout.decide.analysis import NotPossibleError, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.api.objects import Document, Run, Target
    from knrollout.api.spec import Analysis
    from knrollout.api.status import RunStatus, Status
    from knrollout.decide.snapshot import View


@dataclass(frozen=True)
class SetTraffic:
    """Replaces the Service's traffic, if the Service is still as it was read."""

    service: str
    resource_version: str
    targets: tuple[Target, ...]
    mark: str


@dataclass(frozen=True)
class StartRun:
    """One that is there already is left alone: its name says whose it is."""

    manifest: Document


@dataclass(frozen=True)
class StopRun:
    name: str


@dataclass(frozen=True)
class DeleteRun:
    name: str


Action = SetTraffic | StartRun | StopRun | DeleteRun


def actions(view: View, status: Status) -> tuple[Action, ...]:
    """Traffic first: an abort does not wait for the tidying up."""
    return (*_traffic(view, status), *_starts(view, status), *_stops(view, status), *_tidied(view, status))


def _traffic(view: View, status: Status) -> Iterator[SetTraffic]:
    service = view.service
    if service is None or not status.pending or traffic.is_edited(service, status):
        return
    split = status.pending[-1]
    entries = (*traffic.targets(split), *traffic.foreign(service.traffic))
    if split.stable in view.revisions or split.weight == ALL:
        yield SetTraffic(
            service.name, service.resource_version, entries, traffic.mark(view.rollout.name, split)
        )


def _starts(view: View, status: Status) -> Iterator[StartRun]:
    for run in _current(status):
        if run.name not in view.runs:
            yield from _start(view, status, run)


def _start(view: View, status: Status, run: RunStatus) -> Iterator[StartRun]:
    analysis: Analysis | None = view.rollout.canary.analysis
    if run is status.step_run:
        analysis = view.rollout.canary.steps[status.current_step_index].analysis
    if analysis is None:
        return
    try:
        yield StartRun(manifest(run.name, analysis, view.templates, view.subject(status)))
    except NotPossibleError:
        return  # the release is paused for it, and says so


def _current(status: Status) -> list[RunStatus]:
    return [run for run in (status.step_run, status.background_run) if run is not None]


def _stops(view: View, status: Status) -> Iterator[StopRun]:
    current = {run.name for run in _current(status)}
    for run in view.runs.values():
        if run.name not in current and not run.finished and not run.terminated:
            yield StopRun(run.name)


def _tidied(view: View, status: Status) -> Iterator[DeleteRun]:
    """Finished runs of earlier attempts, beyond those that are to be kept."""
    old = [run for run in view.runs.values() if run.finished and run.attempt != status.attempt]
    good = [run for run in old if run.phase == "Successful"]
    bad = [run for run in old if run.phase != "Successful"]
    limits = view.rollout.spec.analysis
    yield from map(DeleteRun, _oldest(good, limits.successful_run_history_limit))
    yield from map(DeleteRun, _oldest(bad, limits.unsuccessful_run_history_limit))


def _oldest(runs: list[Run], kept: int) -> list[str]:
    newest_first = sorted(runs, key=lambda run: (run.created, run.name), reverse=True)
    return [run.name for run in newest_first[kept:]]
