"""Kubernetes events of a rollout, derived from the status before and after a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knrollout.api.objects import AnalysisRun
    from knrollout.api.status import Status

EventType = Literal["Normal", "Warning"]


@dataclass(frozen=True)
class Event:
    type: EventType
    reason: str
    message: str


def events_between(before: Status, after: Status, runs: Mapping[str, AnalysisRun]) -> tuple[Event, ...]:
    """runs are those of the snapshot: they include runs that ended and that `after` no longer names."""
    return (*_run_events(before, runs), *_status_events(before, after))


def _run_events(before: Status, runs: Mapping[str, AnalysisRun]) -> Iterator[Event]:
    for run_status in (before.step_run, before.background_run):
        run = runs.get(run_status.name) if run_status is not None else None
        if run_status is not None and run is not None and run.phase not in {"", run_status.phase}:
            is_bad = run.phase in {"Failed", "Error", "Inconclusive"}
            message = f"{run.name} {run.message}".rstrip()
            yield Event("Warning" if is_bad else "Normal", f"AnalysisRun{run.phase}", message)


def _status_events(before: Status, after: Status) -> Iterator[Event]:
    yield from _history_events(before, after)
    if after.attempt != before.attempt and after.active:
        yield Event("Normal", "Started", f"{after.canary_revision} is released, attempt {after.attempt}")
    if after.active and after.weight not in {0, before.weight}:
        yield Event("Normal", "SetWeight", f"{after.canary_revision} is to get {after.weight} %")
    if after.phase == "Paused" and (before.phase, before.reason) != ("Paused", after.reason):
        yield Event("Normal", after.reason, after.message)
    if after.phase == "Degraded" and after.aborted is None and before.reason != after.reason:
        yield Event("Warning", after.reason, after.message)
    if after.phase == "Healthy" and before.phase != "Healthy":
        yield Event("Normal", "Healthy", after.message)


def _history_events(before: Status, after: Status) -> Iterator[Event]:
    for entry in after.history:
        if entry not in before.history:
            event_type: EventType = "Warning" if entry.outcome == "Aborted" else "Normal"
            yield Event(event_type, entry.outcome, f"{entry.revision}: {entry.message}")
