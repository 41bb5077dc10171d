"""What a decision is made of: a status with its words, and the moves that several rules share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from knrollout.api.status import Aborted, Attempt, PauseCondition, Split
from knrollout.decide import traffic

if TYPE_CHECKING:
    from datetime import datetime

    from knrollout.api.status import Outcome, PauseReason, Phase, Status
    from knrollout.decide.snapshot import View


@dataclass(frozen=True)
class Decision:
    """touch False: nothing in the cluster is changed but the status. wake: look again by then at the latest."""

    status: Status
    touch: bool = True
    wake: datetime | None = None


def said(status: Status, phase: Phase, reason: str, message: str) -> Status:
    return status.but(phase=phase, reason=reason, message=message)


def progressing(status: Status, reason: str, message: str, wake: datetime | None = None) -> Decision:
    calm = status.but(pause_conditions=())
    return Decision(said(calm, "Progressing", reason, message), wake=wake)


def paused(
    view: View, status: Status, reason: PauseReason, message: str, wake: datetime | None = None
) -> Decision:
    before = (held for held in status.pause_conditions if held.reason == reason)
    since = next((held.start_time for held in before), view.now)
    held = PauseCondition(reason=reason, start_time=since, message=message)
    return Decision(said(status.but(pause_conditions=(held,)), "Paused", reason, message), wake=wake)


def want(status: Status, split: Split) -> Status:
    """The split is to be written; its serial is given here. The same one twice is one."""
    last = status.wanted
    forced = split.over or bool(status.pending and status.pending[-1].over)
    if last is not None and not split.over and last.but(serial=0, over=False) == split.but(serial=0):
        return status
    numbered = split.but(serial=status.serial + 1, over=forced)
    return status.but(serial=numbered.serial, pending=(*status.pending, numbered))


def stalled(view: View, status: Status, reason: str, message: str) -> Decision:
    """Progress is awaited; past the deadline the release is aborted, or only said to be late."""
    if view.rollout.spec.paused:
        return paused(view, status.but(stalled_since=None), "UserPaused", f"paused by hand; {message}")
    since = status.stalled_since or view.now
    status = status.but(stalled_since=since)
    if view.now - since < view.patience:
        return progressing(status, reason, message, wake=since + view.patience)
    late = f"no progress in {view.rollout.spec.progress_deadline_seconds} s: {message}"
    if view.rollout.spec.progress_deadline_abort:
        return abort(view, status, "ProgressDeadlineExceeded", late)
    calm = status.but(pause_conditions=())
    return Decision(said(calm, "Degraded", "ProgressDeadlineExceeded", late))


def abort(view: View, status: Status, reason: str, message: str) -> Decision:
    """Everything to stable, now. The canary keeps its tag for a while where it is fit to have one.

    A hand edit is written over only if it gives the canary traffic.
    """
    assert view.service is not None and status.stable_revision and status.canary_revision  # noqa: S101, PT018
    canary, delay = status.canary_revision, view.rollout.canary.abort_scale_down_delay_seconds
    edited = traffic.is_edited(view.service, status)
    status = ended(view, status, "Aborted", reason, message).but(
        aborted=Aborted(at=view.now, reason=reason, message=message),
        weight=0,
        pause_conditions=(),
        stalled_since=None,
        step_run=None,
        background_run=None,
        retained_until=view.now + timedelta(seconds=delay) if delay else None,
    )
    kept = canary if view.ready(canary) else None
    over = edited and traffic.feeds(view.service, canary)
    split = Split(serial=0, stable=status.stable_revision or "", canary=kept, over=over)
    return Decision(said(want(status, split), "Degraded", reason, message), wake=status.retained_until)


def ended(view: View, status: Status, outcome: Outcome, reason: str, message: str) -> Status:
    """The attempt goes into the history, which keeps the newest ones and always the latest revision's last:
    a revision that is not in it counts as new.
    """
    entry = Attempt(
        revision=status.canary_revision or "",
        attempt=status.attempt,
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=status.started_at,
        finished_at=view.now,
    )
    limit = view.rollout.spec.revision_history_limit
    older, newer = (*status.history, entry)[:-limit], (*status.history, entry)[-limit:]
    latest = view.service.latest_created if view.service else None
    last = [old for old in older if old.revision == latest][-1:]
    return status.but(history=(*last, *newer))
