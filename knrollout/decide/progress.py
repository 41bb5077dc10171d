"""A release in progress: reasons to abort come first, then reasons to wait, then the next step."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from knrollout.api.status import FULL_WEIGHT, Split
from knrollout.decide import traffic
from knrollout.decide.analysis_gate import (
    analysis_fault,
    explanation,
    gate_background_run,
    is_withheld,
    with_run_phases,
)
from knrollout.decide.decision import (
    Decision,
    abort,
    await_progress,
    paused,
    progressing,
    queue_split,
    record_attempt,
)
from knrollout.decide.steps import take_steps

if TYPE_CHECKING:
    from knrollout.api.objects import Service
    from knrollout.api.status import Status
    from knrollout.decide.snapshot import Snapshot


def advance(snapshot: Snapshot, service: Service, status: Status) -> Decision:
    status = _with_full_promotion(snapshot, with_run_phases(snapshot, status))
    return (
        _abort_if_due(snapshot, status)
        or _await_readiness(snapshot, status)
        or _pause_if_edited(snapshot, service, status)
        or _pause_if_analysis_is_impossible(snapshot, status)
        or _proceed(snapshot, service, status)
    )


def _with_full_promotion(snapshot: Snapshot, status: Status) -> Status:
    """Without steps and analysis: if a person requests it, or for the return to a recent stable revision."""
    if status.promote_full:
        return status
    requested = snapshot.requests.promotes_in_full(status.canary_revision, status.attempt)
    if not requested and not _within_rollback_window(snapshot, status):
        return status
    return status.replace(promote_full=True, step_run=None, background_run=None)


def _within_rollback_window(snapshot: Snapshot, status: Status) -> bool:
    """As in Argo: an older revision with fewer than `revisions` others between it and stable.

    Unlike in Argo it must have been stable before: the window never leads back to an aborted canary.
    """
    window = snapshot.rollout.spec.rollback_window
    target = snapshot.revisions.get(status.canary_revision or "")
    stable = snapshot.revisions.get(status.stable_revision or "")
    if window is None or target is None or stable is None or not status.was_stable(target.name):
        return False
    between = [r for r in snapshot.revisions.values() if target.generation < r.generation < stable.generation]
    return target.generation < stable.generation and len(between) < window.revisions


def _abort_if_due(snapshot: Snapshot, status: Status) -> Decision | None:
    if snapshot.requests.aborts(status.canary_revision, status.attempt):
        return abort(snapshot, status, "UserAborted", "aborted by hand")
    if status.canary_revision not in snapshot.revisions:
        return abort(snapshot, status, "RevisionDeleted", f"{status.canary_revision} is deleted")
    for run in (status.step_run, status.background_run):
        if run is not None and run.phase == "Failed":
            message = f"{run.name}: {explanation(snapshot, run) or 'failed'}"
            return abort(snapshot, status, "AnalysisRunFailed", message)
    return _abort_if_unhealthy(snapshot, status)


def _abort_if_unhealthy(snapshot: Snapshot, status: Status) -> Decision | None:
    """A canary that has had a share and that Knative says is not ready, or whose containers end while those of stable
    do not: what ends both, such as a database that is away, is not the canary's fault."""
    since, canary = status.canary_started_at, snapshot.revisions[status.canary_revision or ""]
    if since is None:
        return None
    if canary.failed:
        message = f"{canary.name} is no longer ready: {canary.message or 'no reason given'}"
        return abort(snapshot, status, "RevisionNotReady", message)
    ended = [end for end in snapshot.ended if end.at >= since.replace(microsecond=0)]
    of_canary = [end for end in ended if end.revision == canary.name]
    if not of_canary or any(end.revision == status.stable_revision for end in ended):
        return None
    first = min(of_canary, key=lambda end: (end.at, end.pod))
    message = f"containers of {canary.name} ended {len(of_canary)} times; first {first.reason} in {first.pod}"
    return abort(snapshot, status, "ContainersEnded", message)


def _await_readiness(snapshot: Snapshot, status: Status) -> Decision | None:
    canary = snapshot.revisions[status.canary_revision or ""]
    if canary.ready:
        return None
    message = f"{canary.name} is not ready: {canary.message or 'starting'}"
    return await_progress(snapshot, status, "RevisionNotReady", message)


def _pause_if_edited(snapshot: Snapshot, service: Service, status: Status) -> Decision | None:
    if not traffic.is_edited(service, status):
        return None
    message = "the Service's traffic was changed by hand; put it back, or promote to write over it"
    if any(entry.revision is None for entry in service.spec_traffic):
        message = "the Service sends traffic to its latest revision; leave traffic out of its manifest"
    return paused(snapshot, status, "TrafficEdited", message)


def _pause_if_analysis_is_impossible(snapshot: Snapshot, status: Status) -> Decision | None:
    fault = None if status.promote_full else analysis_fault(snapshot, status)
    return paused(snapshot, status, "AnalysisNotPossible", fault) if fault else None


def _proceed(snapshot: Snapshot, service: Service, status: Status) -> Decision:
    """The canary must have its address and its weight before an analysis or the next step starts."""
    status = _with_split(status, 0 if is_withheld(snapshot, status) else status.weight)
    if status.pending:
        return _await_own_write(snapshot, status.replace(stalled_since=None, weight_changed_at=None))
    if not service.route_ready:
        message = service.route_message or "traffic is being moved"
        return await_progress(snapshot, status, "RouteNotReady", message)
    status = status.replace(stalled_since=None, weight_changed_at=status.weight_changed_at or snapshot.now)
    if not status.promote_full:
        status, pause = gate_background_run(snapshot, status)
        if pause is not None:
            return pause
    if snapshot.rollout.spec.paused:
        return paused(snapshot, status, "UserPaused", "paused by hand")
    result = take_steps(snapshot, status)
    return result if isinstance(result, Decision) else _complete(snapshot, result)


def _with_split(status: Status, weight: int) -> Status:
    split = Split(serial=0, stable=status.stable_revision or "", canary=status.canary_revision, weight=weight)
    return queue_split(status, split)


def _await_own_write(snapshot: Snapshot, status: Status) -> Decision:
    """Without a deadline: if no controller was running for a while, that is not the revision's fault."""
    message = "traffic is being moved"
    if snapshot.rollout.spec.paused:
        return paused(snapshot, status, "UserPaused", f"paused by hand; {message}")
    return progressing(status, "RouteNotReady", message)


def _complete(snapshot: Snapshot, status: Status) -> Decision:
    """All steps are passed: the canary gets all traffic, and becomes stable once it has it."""
    if status.weight == FULL_WEIGHT:
        return _promote(snapshot, status)
    status = _with_split(status.replace(weight=FULL_WEIGHT), FULL_WEIGHT)
    return progressing(status, "Promoting", "all traffic is being moved")


def _promote(snapshot: Snapshot, status: Status) -> Decision:
    """The old stable revision keeps a tag for scaleDownDelaySeconds, if it is ready."""
    old, new = status.stable_revision, status.canary_revision or ""
    canary = snapshot.rollout.canary
    reason, message = "PromotedInFull" if status.promote_full else "StepsPassed", f"{new} is stable"
    status = record_attempt(snapshot, status, "Promoted", reason, message).replace(
        stable_revision=new,
        current_step_index=len(canary.steps),
        step_run=None,
        background_run=None,
        pause_conditions=(),
        retained_until=snapshot.now + timedelta(seconds=canary.scale_down_delay_seconds),
    )
    previous = old if canary.scale_down_delay_seconds and snapshot.is_ready(old) else None
    status = queue_split(status, Split(serial=0, stable=new, previous=previous))
    return progressing(status, reason, message)
