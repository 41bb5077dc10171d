"""Status -> e-mails and webhooks, each sent once. Depends on PostgreSQL, SMTP and the shop's webhook endpoints.

The handler is orderflow/notify/handler.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import startup
from orderflow.adapters.http.event_endpoint import EventEndpoint
from orderflow.adapters.http.liveness import Liveness
from orderflow.adapters.telemetry.noop import NoopTelemetry
from orderflow.messaging import topics
from orderflow.messaging.handled_places import records_places
from orderflow.messaging.partition_hold import hold_back
from orderflow.notify import model
from orderflow.notify import settings as notify_settings
from orderflow.notify.claims import ClaimStore
from orderflow.notify.handler import Notifier
from orderflow.notify.history import HistoryStore
from orderflow.settings import NotifySettings

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint
    from orderflow.notify.handler import Channel
    from orderflow.notify.settings import NotificationSettings


def build() -> Endpoint:
    settings = startup.configure(NotifySettings, "notify")
    notifications = notify_settings.load(settings.notifications_file, settings.smtp_url)
    lease = settings.claim_seconds
    database = startup.database(settings)
    claims = ClaimStore(
        database, revision=settings.k_revision, lease_seconds=lease, seconds=settings.event_seconds
    )
    telemetry = startup.telemetry(settings, "notify")
    channels = _channels(notifications, settings.notifications_file.parent)
    if not isinstance(telemetry, NoopTelemetry):
        from orderflow.notify.tracing import traced

        channels = traced(channels, telemetry)
    notifier = Notifier(
        notifications,
        channels,
        claims,
        HistoryStore(database, seconds=settings.event_seconds),
        lease_seconds=lease,
        event_seconds=settings.event_seconds,
    )
    publisher = startup.kafka_publisher(settings, telemetry)
    places = startup.handled_places(database)
    handle = hold_back(records_places(notifier.handle, places, "notify"), settings.hold_from_partition)
    topic_ids = startup.topic_ids(settings, topics.STATUS)
    seconds = settings.event_seconds
    endpoint = EventEndpoint("notify", settings.k_revision, handle, publisher, topic_ids, seconds=seconds)
    return Liveness(telemetry.endpoint(startup.authenticated(endpoint, settings)), seconds)


def _channels(notifications: NotificationSettings, folder: Path) -> dict[str, Channel]:
    """Imports only the channels that are used, because each import makes a start from zero slower."""
    channels: dict[str, Channel] = {}
    if notifications.email is not None:
        from orderflow.notify.email import EmailChannel

        channels[model.EMAIL] = EmailChannel(notifications.shop, notifications.email, folder)
    if notifications.webhooks:
        from orderflow.notify.webhooks import WebhookChannel

        channels[model.WEBHOOK] = WebhookChannel(notifications.webhooks, folder)
    return channels


endpoint = startup.or_exit(build)


@functions_framework.http
async def notify(request: Request) -> Response:
    return await endpoint.handle(request)
