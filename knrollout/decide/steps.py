"""The steps of a release. Each is passed at most once; a promotion passes the step that it names."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from knrollout.api.duration import duration_seconds
from knrollout.api.status import Split
from knrollout.decide.analysis_gate import (
    background_has_measured,
    new_step_run,
    pause_for,
    verdict_of,
)
from knrollout.decide.decision import Decision, paused, progressing, queue_split
from knrollout.decide.run_verdict import RunVerdict

if TYPE_CHECKING:
    from knrollout.api.spec import Pause
    from knrollout.api.status import Status
    from knrollout.decide.snapshot import Snapshot


def take_steps(snapshot: Snapshot, status: Status) -> Decision | Status:
    """Passes every step that is done. Returns a Decision if a step has to wait, a Status if none is left.

    The caller makes sure that the canary has the weight in the status.
    """
    steps = snapshot.rollout.canary.steps
    while not status.promote_full and status.current_step_index < len(steps):
        decision = _take_step(snapshot, status)
        if decision is not None:
            return decision
        status = status.replace(
            current_step_index=status.current_step_index + 1,
            current_step_started_at=snapshot.now,
            step_run=None,
            pause_conditions=(),
        )
    return status if status.promote_full else _require_measurements(snapshot, status)


def _take_step(snapshot: Snapshot, status: Status) -> Decision | None:
    """None if the step is passed."""
    step = snapshot.rollout.canary.steps[status.current_step_index]
    if step.set_weight is not None:
        return _set_weight(snapshot, status, step.set_weight)
    if _is_promoted(snapshot, status):
        return None
    if step.pause is not None:
        return _pause(snapshot, status, step.pause)
    return _analyse(snapshot, status)


def _is_promoted(snapshot: Snapshot, status: Status) -> bool:
    return snapshot.requests.promotes_step(status.canary_revision, status.attempt, status.current_step_index)


def _set_weight(snapshot: Snapshot, status: Status, weight: int) -> Decision | None:
    if status.weight == weight:
        return None
    split = Split(serial=0, stable=status.stable_revision or "", canary=status.canary_revision, weight=weight)
    started_at = status.canary_started_at or (snapshot.now if weight else None)
    status = status.replace(weight=weight, canary_started_at=started_at, weight_changed_at=None)
    status = queue_split(status, split)
    return progressing(status, "SetWeight", f"{weight} % is being moved")


def _pause(snapshot: Snapshot, status: Status, pause: Pause) -> Decision | None:
    if pause.duration is None:
        return paused(snapshot, status, "CanaryPauseStep", "waits for a promotion")
    start = status.current_step_started_at or snapshot.now
    end = start + timedelta(seconds=duration_seconds(pause.duration))
    if snapshot.now >= end:
        return None
    message = f"until {end:%Y-%m-%dT%H:%M:%SZ}"
    return paused(snapshot, status, "CanaryPauseStep", message, requeue_at=end)


def _analyse(snapshot: Snapshot, status: Status) -> Decision | None:
    run = status.step_run
    if run is None:
        return _start_run(snapshot, status, 1)
    verdict = verdict_of(snapshot, run)
    if verdict is RunVerdict.PASSED:
        return None
    if verdict is RunVerdict.WAITING:
        message = f"{run.name} is running"
        deadline = snapshot.now + snapshot.progress_deadline
        return progressing(status, "Analysing", message, requeue_at=deadline)
    if verdict.has_no_result and snapshot.requests.rerun == run.name:
        return _start_run(snapshot, status, run.number + 1)
    return pause_for(verdict, snapshot, status, run)


def _start_run(snapshot: Snapshot, status: Status, number: int) -> Decision:
    run = new_step_run(snapshot, status, number)
    return progressing(status.replace(step_run=run), "Analysing", f"{run.name} starts")


def _require_measurements(snapshot: Snapshot, status: Status) -> Decision | Status:
    """Without data nothing is promoted: the background analysis must have measured the canary successfully."""
    if background_has_measured(snapshot, status) or _is_promoted(snapshot, status):
        return status
    since = status.current_step_started_at or snapshot.now
    deadline = since + snapshot.progress_deadline
    message = "the background analysis has measured nothing yet"
    if snapshot.now >= deadline:
        return paused(snapshot, status, "NothingMeasured", message)
    return progressing(status, "Analysing", message, requeue_at=deadline)
