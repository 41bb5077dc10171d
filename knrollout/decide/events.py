"""What has happened, as events of the rollout: read from the status before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knrollout.api.objects import Run
    from knrollout.api.status import Status


@dataclass(frozen=True)
class Notice:
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def notices(before: Status, after: Status, runs: Mapping[str, Run]) -> tuple[Notice, ...]:
    """runs are those that were read: one that ended is told of also where the status has left it behind."""
    return (*_runs(before, runs), *_changes(before, after))


def _runs(before: Status, runs: Mapping[str, Run]) -> Iterator[Notice]:
    for known in (before.step_run, before.background_run):
        run = runs.get(known.name) if known is not None else None
        if known is not None and run is not None and run.phase not in {"", known.phase}:
            yield Notice(_kind(run.phase), f"AnalysisRun{run.phase}", f"{run.name} {run.message}".rstrip())


def _changes(before: Status, after: Status) -> Iterator[Notice]:
    yield from _entries(before, after)
    if after.attempt != before.attempt and after.active:
        yield Notice("Normal", "Started", f"{after.canary_revision} is tried, attempt {after.attempt}")
    if after.active and after.weight not in {0, before.weight}:
        yield Notice("Normal", "SetWeight", f"{after.canary_revision} is to get {after.weight} %")
    if after.phase == "Paused" and (before.phase, before.reason) != ("Paused", after.reason):
        yield Notice("Normal", after.reason, after.message)
    if after.phase == "Degraded" and after.aborted is None and before.reason != after.reason:
        yield Notice("Warning", after.reason, after.message)
    if after.phase == "Healthy" and before.phase != "Healthy":
        yield Notice("Normal", "Healthy", after.message)


def _entries(before: Status, after: Status) -> Iterator[Notice]:
    for entry in after.history:
        if entry not in before.history:
            kind: Literal["Normal", "Warning"] = "Warning" if entry.outcome == "Aborted" else "Normal"
            yield Notice(kind, entry.outcome, f"{entry.revision}: {entry.message}")


def _kind(phase: str) -> Literal["Normal", "Warning"]:
    return "Warning" if phase in {"Failed", "Error", "Inconclusive"} else "Normal"
