"""What has happened, as events of the rollout: read from the status before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.status import Status


@dataclass(frozen=True)
class Notice:
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def notices(before: Status, after: Status) -> tuple[Notice, ...]:
    return tuple(_notices(before, after))


def _notices(before: Status, after: Status) -> Iterator[Notice]:
    for entry in after.history:
        if entry not in before.history:
            kind: Literal["Normal", "Warning"] = "Warning" if entry.outcome == "Aborted" else "Normal"
            yield Notice(kind, entry.outcome, f"{entry.revision}: {entry.message}")
    if after.attempt != before.attempt and after.active:
        yield Notice("Normal", "Started", f"{after.canary_revision} is tried, attempt {after.attempt}")
    if after.active and after.weight != before.weight:
        yield Notice("Normal", "SetWeight", f"{after.canary_revision} is to get {after.weight} %")
    for run_before, run in (
        (before.step_run, after.step_run),
        (before.background_run, after.background_run),
    ):
        if run is not None and run.phase and (run_before is None or run_before.phase != run.phase):
            yield Notice(_kind(run.phase), f"AnalysisRun{run.phase}", f"{run.name} {run.message}".rstrip())
    if after.phase == "Paused" and (before.phase, before.reason) != ("Paused", after.reason):
        yield Notice("Normal", after.reason, after.message)
    if after.phase == "Degraded" and after.aborted is None and before.reason != after.reason:
        yield Notice("Warning", after.reason, after.message)
    if after.phase == "Healthy" and before.phase != "Healthy":
        yield Notice("Normal", "Healthy", after.message)


def _kind(phase: str) -> Literal["Normal", "Warning"]:
    return "Warning" if phase in {"Failed", "Error", "Inconclusive"} else "Normal"
