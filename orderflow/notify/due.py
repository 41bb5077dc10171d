"""Which notifications a status event gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.notify import model
from orderflow.notify.model import EMAIL, WEBHOOK, Notification

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.notify.model import StatusChange
    from orderflow.notify.settings import NotificationSettings


def notifications(event: CloudEvent, settings: NotificationSettings) -> list[Notification]:
    """Every notification of a status event, always in the same order. Raises PoisonError where the event is not a
    status event of track."""
    return notifications_of(event, model.read(event), settings)


def notifications_of(
    event: CloudEvent, change: StatusChange, settings: NotificationSettings
) -> list[Notification]:
    """As notifications(), of an event that has been read. change is its data."""
    due = []
    if settings.email is not None and change.kind in settings.email.kinds:
        due.append(Notification(event, change, EMAIL, change.order.customer.email))
    due.extend(
        Notification(event, change, WEBHOOK, endpoint.name)
        for endpoint in settings.webhooks
        if change.kind in endpoint.kinds
    )
    return due


def is_due(
    event: CloudEvent, disabled_endpoints: AbstractSet[str], *, settings: NotificationSettings
) -> bool:
    """Whether a status event gives a notification to anyone but disabled webhook endpoints. Raises PoisonError as
    notifications() does."""
    return any(
        each.channel != WEBHOOK or each.recipient not in disabled_endpoints
        for each in notifications(event, settings)
    )
