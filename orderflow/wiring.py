"""The composition root: each stage's collaborators, built from its settings.

What fails to connect fails the event that needs it, not the start. A database that is there and too old fails that:
no event would get through."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from orderflow import settings
from orderflow.adapters.http.event_endpoint import DeadLetters, Reception
from orderflow.adapters.kafka.producer import KafkaPublisher
from orderflow.adapters.telemetry import logs
from orderflow.domain.events import kind_of
from orderflow.domain.rules import Rules
from orderflow.errors import BadSettingsError, OldSchemaError
from orderflow.messaging import topics
from orderflow.messaging.partition_hold import held
from orderflow.messaging.trace_context import Untraced
from orderflow.validate import handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from pathlib import Path

    from flask import Flask

    from orderflow.adapters.kafka.producer import Publisher
    from orderflow.adapters.postgres.pool import Database
    from orderflow.adapters.telemetry.traces import Telemetry
    from orderflow.audit.report import Report
    from orderflow.messaging.cloudevent import Envelope
    from orderflow.messaging.trace_context import Stage
    from orderflow.notify.handler import Channel
    from orderflow.notify.model import NotificationSettings

T = TypeVar("T")

_BEGUN: Final[set[asyncio.Task[None]]] = set()
"""An event loop keeps no task alive by itself."""

AuditRun: TypeAlias = "Callable[[], Awaitable[Report | None]]"


def or_exit(build: Callable[[], T]) -> T:
    """What build returns. A bad setting, or a schema that is too old, ends the process with one line, not with a stack
    trace: exit code 2 or 3."""
    try:
        return build()
    except (BadSettingsError, OldSchemaError) as error:
        logging.basicConfig()
        logging.getLogger("orderflow").critical("%s", error)
        raise SystemExit(2 if isinstance(error, BadSettingsError) else 3) from None


def _connecting(connect: Callable[[], Coroutine[None, None, None]]) -> None:
    """Connects while the platform still waits for the process, so that the first event need not: an idempotent
    producer has its number half a second after it was made, and not sooner.

    Only in a worker: where the function is imported before a fork no event loop runs, and what is made there would
    not live. A server that is away is no fault yet; the first event finds out.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    task = loop.create_task(connect(), context=Context())
    _BEGUN.add(task)
    task.add_done_callback(_BEGUN.discard)


def _publisher(config: settings.KafkaSettings, tracing: Untraced | Telemetry) -> Publisher:
    publisher = KafkaPublisher(config)
    _connecting(publisher.connect)
    return tracing.publisher(publisher)


def _database(config: settings.DatabaseSettings) -> Database:
    from orderflow.adapters.postgres.pool import Database
    from orderflow.adapters.postgres.schema import check_schema

    check_schema(config)
    database = Database(config)
    _connecting(database.connect)
    return database


def _tracing(config: settings.StageSettings, stage: str) -> Untraced | Telemetry:
    """Where nobody listens, OpenTelemetry is not even imported: that would be most of a second cold start."""
    if config.otel_exporter_otlp_endpoint is None:
        return Untraced()
    from orderflow.adapters.telemetry.traces import Telemetry

    return Telemetry(config, config.otel_exporter_otlp_endpoint, stage)


def intake() -> Stage:
    from orderflow.adapters.http.api_keys import Door
    from orderflow.intake.handler import Intake

    config = settings.load(settings.IntakeSettings)
    logs.configure(config.log_level, stage="intake", revision=config.k_revision)
    rules = settings.read_toml(Rules, config.rules_file, "RULES_FILE")
    keys = Door.open(config, "intake")
    tracing = _tracing(config, "intake")
    door = Intake(_publisher(config, tracing), rules, keys, config.public_url)
    return tracing.door(door, *door.routes)


def validate() -> Stage:
    config = settings.load(settings.ValidateSettings)
    logs.configure(config.log_level, stage="validate", revision=config.k_revision)
    rules = settings.read_toml(Rules, config.rules_file, "RULES_FILE")
    tracing = _tracing(config, "validate")
    publisher = _publisher(config, tracing)

    async def handle(event: Envelope) -> str:
        judged = handler.validate(event, rules, config.k_revision)
        await publisher.publish(topics.EVENTS, [judged])
        return kind_of(judged.type) or ""

    waiting = held(handle, config.hold_from_partition)
    return tracing.door(Reception("validate", config.k_revision, waiting, publisher))


def track() -> Stage:
    from orderflow.adapters.postgres.pool import OrderStore
    from orderflow.track.handler import Tracker

    config = settings.load(settings.TrackSettings)
    logs.configure(config.log_level, stage="track", revision=config.k_revision)
    rules = settings.read_toml(Rules, config.rules_file, "RULES_FILE")
    tracing = _tracing(config, "track")
    publisher = _publisher(config, tracing)
    store = OrderStore(_database(config), revision=config.k_revision, waiting=rules.waiting)
    tracker = Tracker(store, publisher, config.k_revision)
    handle = held(tracker.handle, config.hold_from_partition)
    return tracing.door(Reception("track", config.k_revision, handle, publisher))


def park() -> Stage:
    config = settings.load(settings.KafkaSettings)
    logs.configure(config.log_level, stage="park", revision=config.k_revision)
    tracing = _tracing(config, "park")
    return tracing.door(DeadLetters(config.k_revision, _publisher(config, tracing)))


def shelve() -> Stage:
    from orderflow.shelve.action_store import ActionRecord
    from orderflow.shelve.handler import Carrier
    from orderflow.shelve.parked_store import Shelf

    config = settings.load(settings.ShelveSettings)
    logs.configure(config.log_level, stage="shelve", revision=config.k_revision)
    tracing = _tracing(config, "shelve")
    database, publisher = _database(config), _publisher(config, tracing)
    carrier = Carrier(Shelf(database), ActionRecord(database), publisher)
    handle = held(carrier.handle, config.hold_from_partition)
    return tracing.door(Reception("shelve", config.k_revision, handle, publisher))


def notify() -> Stage:
    from orderflow.notify.claims import ClaimStore
    from orderflow.notify.handler import Notifier

    config = settings.load(settings.NotifySettings)
    logs.configure(config.log_level, stage="notify", revision=config.k_revision)
    told = _told(config)
    lease = config.claim_seconds
    claims = ClaimStore(_database(config), revision=config.k_revision, lease_seconds=lease)
    tracing = _tracing(config, "notify")
    channels = tracing.channels(_channels(told, config.notifications_file.parent))
    notifier = Notifier(told, channels, claims, lease_seconds=lease)
    publisher = _publisher(config, tracing)
    handle = held(notifier.handle, config.hold_from_partition)
    return tracing.door(Reception("notify", config.k_revision, handle, publisher))


def _told(config: settings.NotifySettings) -> NotificationSettings:
    from orderflow.notify.model import NotificationSettings

    told = settings.read_toml(NotificationSettings, config.notifications_file, "NOTIFICATIONS_FILE")
    if config.smtp_url is None:
        return told
    try:
        return told.with_smtp_url(config.smtp_url)
    except ValueError:
        raise BadSettingsError("SMTP_URL: this is no smtp://host:port or does not fit the rest") from None


def _channels(told: NotificationSettings, folder: Path) -> dict[str, Channel]:
    """Only what is used is imported: a stage that starts from zero is waited for."""
    from orderflow.notify import model

    channels: dict[str, Channel] = {}
    if told.email is not None:
        from orderflow.notify.email import EmailChannel

        channels[model.EMAIL] = EmailChannel(told.shop, told.email, folder)
    if told.webhooks:
        from orderflow.notify.webhooks import WebhookChannel

        channels[model.WEBHOOK] = WebhookChannel(told.webhooks, folder)
    return channels


def audit() -> AuditRun:
    """One run of the audit; None where another is under way. Raises UnavailableError."""
    from datetime import timedelta

    from orderflow.adapters.kafka.log import Log
    from orderflow.adapters.kafka.producer import client_config
    from orderflow.adapters.postgres.pool import Database, OrderStore
    from orderflow.adapters.postgres.schema import check_schema
    from orderflow.audit.run import Audit, Terms
    from orderflow.audit.store import AuditStore
    from orderflow.domain.rules import Waiting
    from orderflow.notify.model import NotificationSettings
    from orderflow.shelve.parked_store import Shelf
    from orderflow.track.handler import Tracker

    config = settings.load(settings.AuditSettings)
    logs.configure(config.log_level, stage="audit", revision=config.k_revision)
    told = settings.read_toml(NotificationSettings, config.notifications_file, "NOTIFICATIONS_FILE")
    terms = Terms(
        grace=timedelta(seconds=config.audit_grace_seconds),
        settle_seconds=config.audit_settle_seconds,
        most=timedelta(seconds=config.audit_seconds),
        republish_per_second=config.audit_republish_per_second,
        revision=config.k_revision,
    )
    check_schema(config)
    tracing = _tracing(config, "audit")
    publisher = tracing.publisher(KafkaPublisher(config))

    async def run() -> Report | None:
        database = Database(config)
        orders = OrderStore(database, revision=config.k_revision, waiting=Waiting())
        try:
            async with AuditStore.open(config) as store:
                if store is None:
                    return None
                audit = Audit(
                    log=Log(client_config(config)),
                    store=store,
                    publisher=publisher,
                    shelf=Shelf(database),
                    sweep=Tracker(orders, publisher, config.k_revision).sweep,
                    told=told,
                    terms=terms,
                )
                return await audit.run()
        finally:
            await database.close()

    return tracing.audit(run)


def query() -> Flask:
    from orderflow.actions.service import Desk
    from orderflow.adapters.http.api_keys import Door
    from orderflow.adapters.kafka.blocking_producer import BlockingPublisher
    from orderflow.adapters.postgres.schema import check_schema
    from orderflow.query.app import create_app
    from orderflow.query.server_sent_events import EventStreams
    from orderflow.query.store.overdue import Alerts
    from orderflow.query.store.reader import Reader

    config = settings.load(settings.QuerySettings)
    logs.configure(config.log_level, stage="query", revision=config.k_revision)
    rules = settings.read_toml(Rules, config.rules_file, "RULES_FILE") if config.rules_file else Rules()
    reader = Reader(config, Alerts(rules.stuck, rules.gaps))
    tracing = _tracing(config, "query")
    actions = Desk(reader, BlockingPublisher(tracing.publisher(KafkaPublisher(config))).publish)
    rollouts = None
    if config.rollouts:
        from orderflow.query.clients.rollouts import Rollouts

        rollouts = Rollouts.connect()
    streams = EventStreams(config.live_streams)
    keys = Door.open(config, "query")
    check_schema(config)
    app = create_app(reader, keys, streams, actions, _contracts, config.audit_url, rollouts)
    return tracing.console(app)


def _contracts() -> Mapping[str, dict[str, Any]]:
    """Imported when a client first asks for a contract: the import takes a second, which no start should wait for."""
    from orderflow.contracts.documents import documents

    return documents()
