"""One release on its way: reasons to go back come first, then reasons to wait, then the next step."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from knrollout.api.requests import of_attempt
from knrollout.api.status import ALL, Split
from knrollout.decide import traffic
from knrollout.decide.analysis_gate import background, possible, with_phases
from knrollout.decide.decision import Decision, abort, ended, paused, progressing, stalled, want
from knrollout.decide.steps import walk

if TYPE_CHECKING:
    from knrollout.api.objects import Service
    from knrollout.api.status import Status
    from knrollout.decide.snapshot import View


def advance(view: View, service: Service, status: Status) -> Decision:
    status = _promoted_in_full(view, with_phases(view, status))
    return (
        _going_back(view, status)
        or _not_ready(view, status)
        or _hand_edited(view, service, status)
        or _analysis_impossible(view, status)
        or _routed(view, service, status)
    )


def _promoted_in_full(view: View, status: Status) -> Status:
    """By a person, or as a return to a recent stable revision: no steps, no analysis."""
    if status.promote_full:
        return status
    asked = view.requests.passes_all(status.canary_revision, status.attempt)
    if not asked and not _within_rollback_window(view, status):
        return status
    return status.but(promote_full=True, step_run=None, background_run=None)


def _within_rollback_window(view: View, status: Status) -> bool:
    """As in Argo: an older revision with fewer than `revisions` others between it and stable.

    Unlike there it must have been stable before; an aborted canary is no way back.
    """
    window = view.rollout.spec.rollback_window
    target = view.revisions.get(status.canary_revision or "")
    stable = view.revisions.get(status.stable_revision or "")
    if window is None or target is None or stable is None or not status.was_stable(target.name):
        return False
    between = [r for r in view.revisions.values() if target.generation < r.generation < stable.generation]
    return target.generation < stable.generation and len(between) < window.revisions


def _going_back(view: View, status: Status) -> Decision | None:
    if view.requests.abort == of_attempt(status.canary_revision, status.attempt):
        return abort(view, status, "UserAborted", "aborted by hand")
    if status.canary_revision not in view.revisions:
        return abort(view, status, "RevisionDeleted", f"{status.canary_revision} is deleted")
    for run in (status.step_run, status.background_run):
        if run is not None and run.phase == "Failed":
            return abort(view, status, "AnalysisRunFailed", f"{run.name}: {run.message or 'failed'}")
    return None


def _not_ready(view: View, status: Status) -> Decision | None:
    canary = view.revisions[status.canary_revision or ""]
    if canary.ready:
        return None
    return stalled(
        view, status, "RevisionNotReady", f"{canary.name} is not ready: {canary.message or 'starting'}"
    )


def _hand_edited(view: View, service: Service, status: Status) -> Decision | None:
    if not traffic.is_edited(service, status):
        return None
    message = "the Service's traffic was changed by hand; put it back, or promote to write over it"
    if any(entry.revision is None for entry in service.traffic):
        message = "the Service sends traffic to its latest revision; leave traffic out of its manifest"
    return paused(view, status, "TrafficEdited", message)


def _analysis_impossible(view: View, status: Status) -> Decision | None:
    fault = None if status.promote_full else possible(view, status)
    return paused(view, status, "AnalysisNotPossible", fault) if fault else None


def _routed(view: View, service: Service, status: Status) -> Decision:
    """The canary has its address and its share before anything is measured or the next step begins."""
    share = Split(
        serial=0,
        stable=status.stable_revision or "",
        canary=status.canary_revision,
        weight=status.weight,
    )
    status = want(status, share)
    if status.pending:
        return _unwritten(view, status.but(stalled_since=None))
    if not service.route_ready:
        return stalled(view, status, "RouteNotReady", service.route_message or "traffic is being moved")
    status = status.but(stalled_since=None)
    if not status.promote_full:
        status, held = background(view, status)
        if held is not None:
            return held
    if view.rollout.spec.paused:
        return paused(view, status, "UserPaused", "paused by hand")
    walked = walk(view, status)
    if isinstance(walked, Decision):
        return walked
    return _whole(view, walked)


def _unwritten(view: View, status: Status) -> Decision:
    """The controller's own write is awaited: that nobody led for a while is no fault of the revision."""
    message = "traffic is being moved"
    if view.rollout.spec.paused:
        return paused(view, status, "UserPaused", f"paused by hand; {message}")
    return progressing(status, "RouteNotReady", message)


def _whole(view: View, status: Status) -> Decision:
    """All steps are passed: everything goes to the canary, and once it does, the canary is stable."""
    if status.weight == ALL:
        return _promote(view, status)
    share = Split(serial=0, stable=status.stable_revision or "", canary=status.canary_revision, weight=ALL)
    return progressing(want(status.but(weight=ALL), share), "Promoting", "all traffic is being moved")


def _promote(view: View, status: Status) -> Decision:
    """The old stable revision keeps an address for a while, where it is fit to have one."""
    old, new = status.stable_revision, status.canary_revision or ""
    delay = view.rollout.canary.scale_down_delay_seconds
    reason = "PromotedInFull" if status.promote_full else "StepsPassed"
    status = ended(view, status, "Promoted", reason, f"{new} is stable").but(
        stable_revision=new,
        current_step_index=len(view.rollout.canary.steps),
        step_run=None,
        background_run=None,
        pause_conditions=(),
        retained_until=view.now + timedelta(seconds=delay),
    )
    previous = old if delay and view.ready(old) else None
    return progressing(
        want(status, Split(serial=0, stable=new, previous=previous)), reason, f"{new} is stable"
    )
