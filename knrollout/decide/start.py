"""How a release begins: which revision serves now, which one is to, and the first state of an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.status import ALL, Split
from knrollout.decide import traffic
from knrollout.decide.decision import Decision, ended, said, want

if TYPE_CHECKING:
    from knrollout.api.objects import Service
    from knrollout.api.status import Status
    from knrollout.decide.snapshot import View


def adopt(view: View, service: Service, status: Status) -> Decision:
    """The Service was never led by this rollout: whatever serves everything is stable, and is pinned."""
    if traffic.own_tags_taken(service):
        message = "the tags canary and previous are in use; rename them, they belong to the rollout"
        return Decision(said(status, "Degraded", "TagTaken", message), touch=False)
    stable = traffic.sole(service)
    if stable is None and not any(entry.percent for entry in service.actual):
        return Decision(said(status, "Progressing", "NoRevision", "no revision serves yet"), touch=False)
    if stable is None:
        message = "traffic is split; give one revision 100 percent, then the rollout takes over"
        return Decision(said(status, "Degraded", "TrafficSplit", message), touch=False)
    if stable not in view.revisions:
        return Decision(said(status, "Degraded", "StableMissing", _gone(stable)), touch=False)
    status = status.but(
        stable_revision=stable,
        canary_revision=stable,
        attempt=max([status.attempt, *(run.attempt for run in view.runs.values())]),
        serial=_last_serial(service, status),
        steps_hash=view.rollout.steps_hash,
        current_step_index=len(view.rollout.canary.steps),
        weight=ALL,
    )
    status = ended(view, status, "Adopted", "Adopted", "it served when the rollout was made")
    status = want(status, Split(serial=0, stable=stable, over=True))
    return Decision(said(status, "Progressing", "Adopted", f"{stable} is stable; it is being pinned"))


def begin(view: View, service: Service, status: Status) -> Status:
    """A new attempt, if there is something to try; else the status as it is."""
    wanted = _target(view, service, status)
    again = not status.active and view.requests.retried() == (wanted, status.attempt)
    if wanted == status.stable_revision:
        return _back_to_stable(view, status)
    if wanted == status.canary_revision and not again:
        if not status.active or status.steps_hash == view.rollout.steps_hash:
            return status
        status = ended(view, status, "Restarted", "StepsChanged", "the steps were changed on the way")
    elif status.active:
        status = ended(view, status, "Superseded", "NewRevision", f"{wanted} came")
    fresh = status.but(
        canary_revision=wanted,
        attempt=status.attempt + 1,
        started_at=view.now,
        steps_hash=view.rollout.steps_hash,
        current_step_index=0,
        current_step_started_at=view.now,
        weight=0,
        **_CLEAN,
    )
    return want(fresh, Split(serial=0, stable=status.stable_revision or ""))


_CLEAN = {
    "stalled_since": None,
    "promote_full": False,
    "step_run": None,
    "background_run": None,
    "pause_conditions": (),
    "aborted": None,
    "retained_until": None,
}


def _target(view: View, service: Service, status: Status) -> str | None:
    """An undo, else a revision that was never tried, else what somebody wants tried again, else no change."""
    latest = service.latest_created if service.settled else None
    undone = view.requests.undone_to(latest)
    if undone is not None:
        return undone
    if latest is not None and latest != status.stable_revision and status.last_attempt(latest) is None:
        return latest
    retried = view.requests.retried()
    if retried is not None and not status.active and retried[1] == status.attempt:
        return retried[0] if retried[0] in view.revisions else status.canary_revision
    return status.canary_revision


def _back_to_stable(view: View, status: Status) -> Status:
    """Undone to the revision that is stable anyway: there is nothing to release."""
    if status.canary_revision == status.stable_revision:
        return status
    if status.active:
        status = ended(view, status, "Undone", "Undone", f"back to {status.stable_revision}")
    calm = status.but(
        canary_revision=status.stable_revision,
        current_step_index=len(view.rollout.canary.steps),
        weight=ALL,
        **_CLEAN,
    )
    return want(calm, Split(serial=0, stable=status.stable_revision or ""))


def _last_serial(service: Service, status: Status) -> int:
    """Serials only rise, also where the status was lost."""
    _, _, serial = (service.split or "").rpartition("/")
    return max(status.serial, int(serial) if serial.isdecimal() else 0)


def _gone(revision: str) -> str:
    return f"{revision} is deleted; nothing is changed until a person decides"
