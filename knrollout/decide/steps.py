"""The steps of a release: each is passed at most once, and a promotion passes the one it names."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from knrollout.api.spec import seconds
from knrollout.api.status import Split
from knrollout.decide.analysis import Verdict
from knrollout.decide.analysis_gate import has_measured, held, step_run, verdict
from knrollout.decide.decision import Decision, paused, progressing, want

if TYPE_CHECKING:
    from knrollout.api.spec import Pause
    from knrollout.api.status import Status
    from knrollout.decide.snapshot import View


def walk(view: View, status: Status) -> Decision | Status:
    """Steps that are passed are left behind; a Decision is what is waited for, a Status that none is left.

    The traffic of the status is in place.
    """
    steps = view.rollout.canary.steps
    while not status.promote_full and status.current_step_index < len(steps):
        waiting = _wait(view, status)
        if waiting is not None:
            return waiting
        status = status.but(
            current_step_index=status.current_step_index + 1,
            current_step_started_at=view.now,
            step_run=None,
            pause_conditions=(),
        )
    return status if status.promote_full else _gate(view, status)


def _wait(view: View, status: Status) -> Decision | None:
    step = view.rollout.canary.steps[status.current_step_index]
    if step.set_weight is not None:
        return _weigh(status, step.set_weight)
    if view.requests.passes(status.canary_revision, status.attempt, status.current_step_index):
        return None
    if step.pause is not None:
        return _pause(view, status, step.pause)
    return _analyse(view, status)


def _weigh(status: Status, weight: int) -> Decision | None:
    if status.weight == weight:
        return None
    share = Split(serial=0, stable=status.stable_revision or "", canary=status.canary_revision, weight=weight)
    return progressing(want(status.but(weight=weight), share), "SetWeight", f"{weight} % is being moved")


def _pause(view: View, status: Status, pause: Pause) -> Decision | None:
    if pause.duration is None:
        return paused(view, status, "CanaryPauseStep", "waits for a promotion")
    started = status.current_step_started_at or view.now
    until = started + timedelta(seconds=seconds(pause.duration))
    if view.now >= until:
        return None
    return paused(view, status, "CanaryPauseStep", f"until {until:%Y-%m-%dT%H:%M:%SZ}", wake=until)


def _analyse(view: View, status: Status) -> Decision | None:
    run = status.step_run
    if run is None:
        begun = step_run(view, status)
        return progressing(status.but(step_run=begun), "Analysing", f"{begun.name} begins")
    found = verdict(view, run)
    if found is Verdict.PASSED:
        return None
    if found is Verdict.WAITING:
        return progressing(status, "Analysing", f"{run.name} is running", wake=view.now + view.patience)
    if found.held and view.requests.rerun == run.name:
        again = step_run(view, status, run.number + 1)
        return progressing(status.but(step_run=again), "Analysing", f"{again.name} begins")
    return held(view, status, run, found)


def _gate(view: View, status: Status) -> Decision | Status:
    """No promotion on no data: the background analysis must have something to say for the canary."""
    if has_measured(view, status):
        return status
    last = len(view.rollout.canary.steps)
    if view.requests.passes(status.canary_revision, status.attempt, last):
        return status
    since = status.current_step_started_at or view.now
    message = "the background analysis has measured nothing yet"
    if view.now - since >= view.patience:
        return paused(view, status, "NothingMeasured", message)
    return progressing(status, "Analysing", message, wake=since + view.patience)
