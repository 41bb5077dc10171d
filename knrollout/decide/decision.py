"""Building blocks of decisions: a status with its phase, and the moves that several rules share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from knrollout.api.status import AbortStatus, Attempt, PauseCondition, Split
from knrollout.decide import traffic

if TYPE_CHECKING:
    from datetime import datetime

    from knrollout.api.status import Outcome, PauseReason, Phase, Status
    from knrollout.decide.snapshot import Snapshot


@dataclass(frozen=True)
class Decision:
    """status_only: nothing but the status is written. requeue_at: decide again by then at the latest."""

    status: Status
    status_only: bool = False
    requeue_at: datetime | None = None


def with_phase(status: Status, phase: Phase, reason: str, message: str) -> Status:
    return status.replace(phase=phase, reason=reason, message=message)


def progressing(status: Status, reason: str, message: str, requeue_at: datetime | None = None) -> Decision:
    status = status.replace(pause_conditions=())
    return Decision(with_phase(status, "Progressing", reason, message), requeue_at=requeue_at)


def paused(
    snapshot: Snapshot,
    status: Status,
    reason: PauseReason,
    message: str,
    requeue_at: datetime | None = None,
) -> Decision:
    start_times = (each.start_time for each in status.pause_conditions if each.reason == reason)
    condition = PauseCondition(reason=reason, start_time=next(start_times, snapshot.now), message=message)
    status = status.replace(pause_conditions=(condition,))
    return Decision(with_phase(status, "Paused", reason, message), requeue_at=requeue_at)


def queue_split(status: Status, split: Split) -> Status:
    """Adds the split to those that are pending and numbers it. A split that equals the newest one adds nothing."""
    newest = status.newest_split
    if (
        newest is not None
        and not split.over
        and newest.replace(serial=0, over=False) == split.replace(serial=0)
    ):
        return status
    over = split.over or bool(status.pending and status.pending[-1].over)
    numbered = split.replace(serial=status.serial + 1, over=over)
    return status.replace(serial=numbered.serial, pending=(*status.pending, numbered))


def await_progress(snapshot: Snapshot, status: Status, reason: str, message: str) -> Decision:
    """Past the progress deadline the release is aborted, or only reported as late, as the spec says."""
    if snapshot.rollout.spec.paused:
        status = status.replace(stalled_since=None)
        return paused(snapshot, status, "UserPaused", f"paused by hand; {message}")
    since = status.stalled_since or snapshot.now
    status = status.replace(stalled_since=since)
    if snapshot.now - since < snapshot.progress_deadline:
        return progressing(status, reason, message, requeue_at=since + snapshot.progress_deadline)
    spec = snapshot.rollout.spec
    message = f"no progress in {spec.progress_deadline_seconds} s: {message}"
    if spec.progress_deadline_abort:
        return abort(snapshot, status, "ProgressDeadlineExceeded", message)
    status = status.replace(pause_conditions=())
    return Decision(with_phase(status, "Degraded", "ProgressDeadlineExceeded", message))


def abort(snapshot: Snapshot, status: Status, reason: str, message: str) -> Decision:
    """All traffic goes to stable now. The canary keeps its tag for abortScaleDownDelaySeconds, if it is ready.

    A manual edit is overwritten only if it gives traffic to the canary.
    """
    service, canary = snapshot.service, status.canary_revision
    assert service is not None and status.stable_revision and canary  # noqa: S101, PT018
    delay = snapshot.rollout.canary.abort_scale_down_delay_seconds
    over = traffic.is_edited(service, status) and traffic.receives_traffic(service, canary)
    status = record_attempt(snapshot, status, "Aborted", reason, message).replace(
        aborted=AbortStatus(at=snapshot.now, reason=reason, message=message),
        weight=0,
        pause_conditions=(),
        stalled_since=None,
        step_run=None,
        background_run=None,
        retained_until=snapshot.now + timedelta(seconds=delay) if delay else None,
    )
    split = Split(
        serial=0,
        stable=status.stable_revision or "",
        canary=canary if snapshot.is_ready(canary) else None,
        over=over,
    )
    status = queue_split(status, split)
    return Decision(with_phase(status, "Degraded", reason, message), requeue_at=status.retained_until)


def record_attempt(snapshot: Snapshot, status: Status, outcome: Outcome, reason: str, message: str) -> Status:
    """Adds the attempt to the history, which keeps the newest revisionHistoryLimit entries.

    It also keeps the last attempt of the latest revision, because a revision that is not in the history counts as new.
    """
    entry = Attempt(
        revision=status.canary_revision or "",
        attempt=status.attempt,
        outcome=outcome,
        reason=reason,
        message=message,
        started_at=status.started_at,
        finished_at=snapshot.now,
    )
    limit = snapshot.rollout.spec.revision_history_limit
    older, newest = (*status.history, entry)[:-limit], (*status.history, entry)[-limit:]
    latest = snapshot.service.latest_created_revision if snapshot.service else None
    last_of_latest = [old for old in older if old.revision == latest][-1:]
    return status.replace(history=(*last_of_latest, *newest))
