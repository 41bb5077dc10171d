"""The status as people should see it: what the controller has not seen yet comes before what it wrote last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.requests import Requests
from knrollout.api.rollout import parse_status

if TYPE_CHECKING:
    from knrollout.api.objects import Document, Service
    from knrollout.api.status import Status


def visible_status(document: Document, service: Service | None) -> Status:
    """The phase is Progressing while the controller or Knative has not seen the latest change or request: the status
    then still belongs to the time before.

    Without the Service only what the rollout itself shows is known.
    """
    status = parse_status(document)
    if _is_refused(document, status):
        return status
    unseen = _unseen_change(document, status) or (_unseen_by_knative(service, status) if service else None)
    if unseen is not None:
        return status.replace(phase="Progressing", reason="NotSeen", message=unseen)
    if is_paused_at_rest(document, status):
        message = f"{status.message}; paused by hand: promote lets the next release go on"
        return status.replace(message=message)
    return status


def is_paused_at_rest(document: Document, status: Status) -> bool:
    """spec.paused is set and there is no release that it holds: the next one will stay at 0 %."""
    return bool(document["spec"].get("paused")) and not status.active


def _is_refused(document: Document, status: Status) -> bool:
    """The controller has seen the spec and does not support it: it takes up no request."""
    return status.reason == "InvalidSpec" and _is_observed(document, status)


def _is_observed(document: Document, status: Status) -> bool:
    generation: int = document["metadata"]["generation"]
    return status.observed_generation == generation


def _unseen_change(document: Document, status: Status) -> str | None:
    requests = Requests.parse(document["metadata"].get("annotations") or {})
    waiting = requests.unseen(status.observed_requests)
    if waiting:
        return f"the controller has not taken up yet: {', '.join(waiting)}"
    if not _is_observed(document, status):
        return "the controller has not seen the rollout as it is now"
    return None


def _unseen_by_knative(service: Service, status: Status) -> str | None:
    if not service.settled:
        return "Knative has not seen the Service as it is now"
    latest, current = service.latest_created_revision, {status.stable_revision, status.canary_revision}
    if latest is not None and latest not in current and status.last_attempt(latest) is None:
        return f"the controller has not seen {latest}"
    return None
