"""The whole controller as one pure function: from a snapshot of the cluster to a status, actions and events.

The caller writes the status first and then carries out the actions. Each action is checked against the resourceVersion
in the snapshot. A write that fails or comes late does no harm: the status names every write before it is made, so the
next snapshot shows what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from knrollout.api import names
from knrollout.decide import traffic
from knrollout.decide.actions import required_actions
from knrollout.decide.conditions import current_conditions
from knrollout.decide.decision import Decision, queue_split, with_phase
from knrollout.decide.events import events_between
from knrollout.decide.idle import maintain
from knrollout.decide.progress import advance
from knrollout.decide.start import adopt, start_attempt

if TYPE_CHECKING:
    from datetime import datetime

    from knrollout.api.objects import Service
    from knrollout.api.rollout import InvalidSpec
    from knrollout.api.status import Status
    from knrollout.decide.actions import Action
    from knrollout.decide.events import Event
    from knrollout.decide.snapshot import Snapshot


@dataclass(frozen=True)
class Plan:
    """requeue_at: decide again by then at the latest, even if nothing happens."""

    status: Status
    actions: tuple[Action, ...]
    events: tuple[Event, ...]
    requeue_at: datetime | None = None


def make_plan(snapshot: Snapshot) -> Plan:
    decision = _decide(snapshot)
    status = decision.status.replace(
        observed_generation=snapshot.rollout.generation, observed_requests=snapshot.requests.tokens
    )
    status = status.replace(conditions=current_conditions(snapshot, status))
    actions = () if decision.status_only else required_actions(snapshot, status)
    events = events_between(snapshot.rollout.status, status, snapshot.runs)
    return Plan(status, actions, events, decision.requeue_at)


def plan_for_invalid_spec(rollout: InvalidSpec, generation: int) -> Plan:
    """Nothing but the status is written."""
    observed = rollout.status.replace(observed_generation=generation)
    status = with_phase(observed, "Degraded", "InvalidSpec", rollout.message)
    return Plan(status, (), events_between(rollout.status, status, {}))


def _decide(snapshot: Snapshot) -> Decision:
    status, service = snapshot.rollout.status, snapshot.service
    if service is None:
        message = f"there is no Service {snapshot.rollout.spec.workload_ref.name}"
        return Decision(with_phase(status, "Degraded", "ServiceMissing", message), status_only=True)
    if snapshot.owner is not None:
        message = f"the Service belongs to the rollout {snapshot.owner}, which is older"
        return Decision(with_phase(status, "Degraded", "ServiceTaken", message), status_only=True)
    if status.stable_revision is None:
        return adopt(snapshot, service, status)
    status = _confirm_split(snapshot, service, status)
    return _release(snapshot, service, _take_over_traffic(snapshot, service, status))


def _release(snapshot: Snapshot, service: Service, status: Status) -> Decision:
    if status.stable_revision not in snapshot.revisions and not _replaces_stable(snapshot, status):
        message = f"{status.stable_revision} is deleted; nothing is changed until a person promotes in full"
        return Decision(with_phase(status, "Degraded", "StableMissing", message), status_only=True)
    status = start_attempt(snapshot, service, status)
    return advance(snapshot, service, status) if status.active else maintain(snapshot, service, status)


def _replaces_stable(snapshot: Snapshot, status: Status) -> bool:
    """Without its stable revision a release can only be promoted, and only if a person requests it."""
    requested = snapshot.requests.promotes_in_full(status.canary_revision, status.attempt)
    is_promotion = status.active and (status.promote_full or requested)
    return is_promotion and snapshot.is_ready(status.canary_revision)


def _confirm_split(snapshot: Snapshot, service: Service, status: Status) -> Status:
    """Once the Service has the newest split it is the applied one. No older one can be written any more."""
    address = next((entry.url for entry in service.status_traffic if entry.tag == names.CANARY_TAG), None)
    status = status.replace(canary_address=address)
    if not status.pending:
        return status
    newest = status.pending[-1]
    is_annotated = service.split_annotation == traffic.split_annotation(snapshot.rollout.name, newest)
    if not is_annotated or not traffic.is_written(service, newest):
        return status
    return status.replace(applied=newest.replace(over=False), pending=())


def _take_over_traffic(snapshot: Snapshot, service: Service, status: Status) -> Status:
    """A person allows the rollout to overwrite the manual edit that replaced this split."""
    requested = snapshot.requests.take_over == str(status.serial)
    if not requested or status.newest_split is None or not traffic.is_edited(service, status):
        return status
    return queue_split(status, status.newest_split.replace(over=True))
