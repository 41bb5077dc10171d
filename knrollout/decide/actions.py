"""The changes in the cluster that a status asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from knrollout.api.status import FULL_WEIGHT
from knrollout.decide import traffic
from knrollout.decide.analysis import NotPossibleError, run_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.api.objects import AnalysisRun, Document, TrafficTarget
    from knrollout.api.status import RunStatus, Status
    from knrollout.decide.snapshot import Snapshot


@dataclass(frozen=True)
class SetTraffic:
    """Replaces the Service's traffic, if the Service still has this resourceVersion."""

    service: str
    resource_version: str
    targets: tuple[TrafficTarget, ...]
    split_annotation: str


@dataclass(frozen=True)
class StartRun:
    """A run of the same name is left as it is: it is the same run, created by another controller."""

    manifest: Document


@dataclass(frozen=True)
class StopRun:
    name: str


@dataclass(frozen=True)
class DeleteRun:
    name: str


Action = SetTraffic | StartRun | StopRun | DeleteRun


def required_actions(snapshot: Snapshot, status: Status) -> tuple[Action, ...]:
    """Traffic comes first, so that an abort does not wait for the clean-up of runs."""
    return (
        *_set_traffic(snapshot, status),
        *_start_runs(snapshot, status),
        *_stop_runs(snapshot, status),
        *_delete_runs(snapshot, status),
    )


def _set_traffic(snapshot: Snapshot, status: Status) -> Iterator[SetTraffic]:
    service = snapshot.service
    if service is None or not status.pending or traffic.is_edited(service, status):
        return
    split = status.pending[-1]
    if split.stable in snapshot.revisions or split.weight == FULL_WEIGHT:
        yield SetTraffic(
            service.name,
            service.resource_version,
            targets=(*traffic.targets(split), *traffic.foreign_tags(service.spec_traffic)),
            split_annotation=traffic.split_annotation(snapshot.rollout.name, split),
        )


def _start_runs(snapshot: Snapshot, status: Status) -> Iterator[StartRun]:
    for run in _current_runs(status):
        if run.name not in snapshot.runs:
            yield from _start_run(snapshot, status, run)


def _start_run(snapshot: Snapshot, status: Status, run: RunStatus) -> Iterator[StartRun]:
    canary = snapshot.rollout.canary
    is_step_run = run is status.step_run
    analysis = canary.steps[status.current_step_index].analysis if is_step_run else canary.analysis
    if analysis is None:
        return
    try:
        yield StartRun(run_manifest(run.name, analysis, snapshot.templates, snapshot.subject(status)))
    except NotPossibleError:
        return  # the release is paused with this reason


def _current_runs(status: Status) -> list[RunStatus]:
    return [run for run in (status.step_run, status.background_run) if run is not None]


def _stop_runs(snapshot: Snapshot, status: Status) -> Iterator[StopRun]:
    current = {run.name for run in _current_runs(status)}
    for run in snapshot.runs.values():
        if run.name not in current and not run.finished and not run.terminated:
            yield StopRun(run.name)


def _delete_runs(snapshot: Snapshot, status: Status) -> Iterator[DeleteRun]:
    """Finished runs of earlier attempts, beyond the history limits of the spec."""
    old = [run for run in snapshot.runs.values() if run.finished and run.attempt != status.attempt]
    successful = [run for run in old if run.phase == "Successful"]
    unsuccessful = [run for run in old if run.phase != "Successful"]
    limits = snapshot.rollout.spec.analysis
    yield from map(DeleteRun, _beyond(limits.successful_run_history_limit, successful))
    yield from map(DeleteRun, _beyond(limits.unsuccessful_run_history_limit, unsuccessful))


def _beyond(limit: int, runs: list[AnalysisRun]) -> list[str]:
    """Names of all runs but the newest ones."""
    newest_first = sorted(runs, key=lambda run: (run.created, run.name), reverse=True)
    return [run.name for run in newest_first[limit:]]
