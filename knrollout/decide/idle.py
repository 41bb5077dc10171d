"""No release is in progress: the last one was promoted or aborted. Tags are removed when their delay is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.status import FULL_WEIGHT
from knrollout.decide import traffic
from knrollout.decide.decision import Decision, queue_split, with_phase

if TYPE_CHECKING:
    from datetime import datetime

    from knrollout.api.objects import Service
    from knrollout.api.status import Split, Status
    from knrollout.decide.snapshot import Snapshot


def maintain(snapshot: Snapshot, service: Service, status: Status) -> Decision:
    assert status.newest_split is not None  # noqa: S101 - there is a split since the Service was adopted
    status = queue_split(status, _without_expired_tags(snapshot, status, status.newest_split))
    return Decision(_with_idle_phase(service, status), requeue_at=_next_expiry(snapshot, status))


def _with_idle_phase(service: Service, status: Status) -> Status:
    if traffic.is_edited(service, status):
        message = "the Service's traffic was changed by hand and is left so; promote writes over it"
        return with_phase(status, "Degraded", "TrafficEdited", message)
    if status.aborted is not None:
        return with_phase(status, "Degraded", status.aborted.reason, status.aborted.message)
    if status.pending or not service.route_ready:
        message = service.route_message or "traffic is being moved"
        return with_phase(status, "Progressing", "RouteNotReady", message)
    message = f"{status.stable_revision} serves all traffic"
    return with_phase(status.replace(weight=FULL_WEIGHT), "Healthy", "Healthy", message)


def _next_expiry(snapshot: Snapshot, status: Status) -> datetime | None:
    expiry = status.retained_until
    return expiry if expiry is not None and expiry > snapshot.now else None


def _without_expired_tags(snapshot: Snapshot, status: Status, split: Split) -> Split:
    """Also without the tags of revisions that are deleted or not ready: the Route would not become ready."""
    expired = status.retained_until is not None and snapshot.now >= status.retained_until
    return split.replace(
        over=False,
        canary=split.canary if snapshot.is_ready(split.canary) and not expired else None,
        previous=split.previous if snapshot.is_ready(split.previous) and not expired else None,
    )
