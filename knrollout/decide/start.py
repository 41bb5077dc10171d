"""Start of a release: which revision is stable, which one to release next, and the first state of an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knrollout.api.status import FULL_WEIGHT, Split
from knrollout.decide import traffic
from knrollout.decide.decision import Decision, queue_split, record_attempt, with_phase

if TYPE_CHECKING:
    from knrollout.api.objects import Service
    from knrollout.api.status import Phase, Status
    from knrollout.decide.snapshot import Snapshot

_NO_ATTEMPT: Final = {
    "canary_started_at": None,
    "weight_changed_at": None,
    "stalled_since": None,
    "promote_full": False,
    "step_run": None,
    "background_run": None,
    "pause_conditions": (),
    "aborted": None,
    "retained_until": None,
}
"""Fields of the status that belong to one attempt, as they are before it."""


def adopt(snapshot: Snapshot, service: Service, status: Status) -> Decision:
    """The first decision about a Service: the revision that serves all traffic is stable, and is pinned by name."""
    if traffic.own_tags_in_use(service):
        message = "the tags canary and previous are in use; rename them, they belong to the rollout"
        return _not_adopted(status, "Degraded", "TagTaken", message)
    stable = traffic.serving_revision(service)
    if stable is None and not any(entry.percent for entry in service.status_traffic):
        return _not_adopted(status, "Progressing", "NoRevision", "no revision serves yet")
    if stable is None:
        message = "traffic is split; give one revision 100 percent, then the rollout takes over"
        return _not_adopted(status, "Degraded", "TrafficSplit", message)
    if stable not in snapshot.revisions:
        message = f"{stable} is deleted; nothing is changed until a person decides"
        return _not_adopted(status, "Degraded", "StableMissing", message)
    status = status.replace(
        stable_revision=stable,
        canary_revision=stable,
        attempt=max([status.attempt, *(run.attempt for run in snapshot.runs.values())]),
        serial=_last_serial(service, status),
        steps_hash=snapshot.rollout.steps_hash,
        current_step_index=len(snapshot.rollout.canary.steps),
        weight=FULL_WEIGHT,
    )
    message = "it served when the rollout was created"
    status = record_attempt(snapshot, status, "Adopted", "Adopted", message)
    status = queue_split(status, Split(serial=0, stable=stable, over=True))
    message = f"{stable} is stable; it is being pinned"
    return Decision(with_phase(status, "Progressing", "Adopted", message))


def _not_adopted(status: Status, phase: Phase, reason: str, message: str) -> Decision:
    return Decision(with_phase(status, phase, reason, message), status_only=True)


def start_attempt(snapshot: Snapshot, service: Service, status: Status) -> Status:
    """A new attempt if there is a revision to release; otherwise the unchanged status."""
    target = _target_revision(snapshot, service, status)
    if target == status.stable_revision:
        return _back_to_stable(snapshot, status)
    retry = not status.active and snapshot.requests.retry_target() == (target, status.attempt)
    if target == status.canary_revision and not retry:
        if not status.active or status.steps_hash == snapshot.rollout.steps_hash:
            return status
        message = "the steps were changed during the release"
        status = record_attempt(snapshot, status, "Restarted", "StepsChanged", message)
    elif status.active:
        status = record_attempt(snapshot, status, "Superseded", "NewRevision", f"{target} was created")
    status = status.replace(
        canary_revision=target,
        attempt=status.attempt + 1,
        started_at=snapshot.now,
        steps_hash=snapshot.rollout.steps_hash,
        current_step_index=0,
        current_step_started_at=snapshot.now,
        weight=0,
        **_NO_ATTEMPT,
    )
    return queue_split(status, Split(serial=0, stable=status.stable_revision or ""))


def _target_revision(snapshot: Snapshot, service: Service, status: Status) -> str | None:
    """In this order: an undo, the latest revision if it was never tried, a retry, the current canary."""
    latest = service.latest_created_revision if service.settled else None
    undo = snapshot.requests.undo_target(latest)
    if undo is not None:
        return undo
    if latest is not None and latest != status.stable_revision and status.last_attempt(latest) is None:
        return latest
    retry = snapshot.requests.retry_target()
    if retry is not None and not status.active and retry[1] == status.attempt:
        return retry[0] if retry[0] in snapshot.revisions else status.canary_revision
    return status.canary_revision


def _back_to_stable(snapshot: Snapshot, status: Status) -> Status:
    """The target is the stable revision: there is nothing to release, and a release in progress ends."""
    if status.canary_revision == status.stable_revision:
        return status
    if status.active:
        status = record_attempt(snapshot, status, "Undone", "Undone", f"back to {status.stable_revision}")
    status = status.replace(
        canary_revision=status.stable_revision,
        current_step_index=len(snapshot.rollout.canary.steps),
        weight=FULL_WEIGHT,
        **_NO_ATTEMPT,
    )
    return queue_split(status, Split(serial=0, stable=status.stable_revision or ""))


def _last_serial(service: Service, status: Status) -> int:
    """The Service's annotation counts too: serials must rise even if the status was lost."""
    _, _, serial = (service.split_annotation or "").rpartition("/")
    return max(status.serial, int(serial) if serial.isdecimal() else 0)
