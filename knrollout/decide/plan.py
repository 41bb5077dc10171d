"""The whole controller as one pure function: from a reading of the cluster to a status and actions.

The status is written first, then the actions are carried out, each checked by the
resourceVersion that was read. Whatever of this does not happen, or happens late, the
next reading leads on: the status names every write before it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from knrollout.api import names
from knrollout.decide import actions as acting
from knrollout.decide import traffic
from knrollout.decide.conditions import conditions
from knrollout.decide.decision import Decision, said, want
from knrollout.decide.events import notices
from knrollout.decide.idle import rest
from knrollout.decide.progress import advance
from knrollout.decide.start import adopt, begin

if TYPE_CHECKING:
    from datetime import datetime

    from knrollout.api.objects import Service
    from knrollout.api.status import Status
    from knrollout.decide.actions import Action
    from knrollout.decide.events import Notice
    from knrollout.decide.snapshot import View


@dataclass(frozen=True)
class Plan:
    """wake: when to look again even if nothing happens."""

    status: Status
    actions: tuple[Action, ...]
    wake: datetime | None
    notices: tuple[Notice, ...] = ()


def plan(view: View) -> Plan:
    decision = _decide(view)
    status = decision.status.but(observed_generation=view.rollout.generation)
    status = status.but(conditions=conditions(view, status))
    actions = acting.actions(view, status) if decision.touch else ()
    return Plan(status, actions, decision.wake, notices(view.rollout.status, status, view.runs))


def _decide(view: View) -> Decision:
    status, service = view.rollout.status, view.service
    if service is None:
        message = f"there is no Service {view.rollout.spec.workload_ref.name}"
        return Decision(said(status, "Degraded", "ServiceMissing", message), touch=False)
    if view.rival is not None:
        message = f"the Service belongs to the rollout {view.rival}, which is older"
        return Decision(said(status, "Degraded", "ServiceTaken", message), touch=False)
    if status.stable_revision is None:
        return adopt(view, service, status)
    return _lead(view, service, _taken_over(view, service, _confirmed(view, service, status)))


def _lead(view: View, service: Service, status: Status) -> Decision:
    if status.stable_revision not in view.revisions and not _replaces_stable(view, status):
        message = f"{status.stable_revision} is deleted; nothing is changed until a person promotes in full"
        return Decision(said(status, "Degraded", "StableMissing", message), touch=False)
    status = begin(view, service, status)
    return advance(view, service, status) if status.active else rest(view, service, status)


def _replaces_stable(view: View, status: Status) -> bool:
    """Without its stable revision a release can only go forward, and only if a person says so."""
    asked = status.promote_full or view.requests.passes_all(status.canary_revision, status.attempt)
    return status.active and asked and view.ready(status.canary_revision)


def _confirmed(view: View, service: Service, status: Status) -> Status:
    """The Service bears the newest split: it is applied, and no older one can be written any more."""
    address = next((entry.url for entry in service.actual if entry.tag == names.CANARY_TAG), None)
    status = status.but(canary_address=address)
    if not status.pending:
        return status
    newest = status.pending[-1]
    marked = service.split == traffic.mark(view.rollout.name, newest)
    if not marked or not traffic.is_written(service, newest):
        return status
    return status.but(applied=newest.but(over=False), pending=())


def _taken_over(view: View, service: Service, status: Status) -> Status:
    """A person lets the rollout write over the hand edit that replaced this very split."""
    asked = view.requests.take_over == str(status.serial)
    if not asked or status.wanted is None or not traffic.is_edited(service, status):
        return status
    return want(status, status.wanted.but(over=True))
