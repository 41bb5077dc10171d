"""Shared by the composition roots in functions/: start-up errors, and clients that connect in the background.

A failed connection fails the event that needs it, not the start. An outdated schema fails the start, because every
event would fail.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import TYPE_CHECKING, Final, TypeVar

from orderflow import logs
from orderflow import settings as environment
from orderflow.adapters.telemetry.noop import NoopTelemetry
from orderflow.errors import BadSettingsError, SchemaOutdatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from orderflow.adapters.http.endpoint import Endpoint
    from orderflow.adapters.http.judge_endpoint import Judge
    from orderflow.adapters.postgres.pool import Database
    from orderflow.adapters.telemetry.traces import Telemetry
    from orderflow.messaging.handled_places import HandledPlaces
    from orderflow.messaging.places import TopicIds
    from orderflow.messaging.publisher import Publisher
    from orderflow.settings import (
        DatabaseSettings,
        JudgingSettings,
        KafkaSettings,
        SenderSettings,
        StageSettings,
        TokenRules,
    )

S = TypeVar("S", bound="StageSettings")
T = TypeVar("T")

_TASKS: Final[set[asyncio.Task[None]]] = set()
"""An event loop keeps no task alive by itself."""


def or_exit(build: Callable[[], T]) -> T:
    """The result of build(). A bad setting ends the process with exit code 2, an outdated schema with exit code 3; the
    log has one line instead of a stack trace."""
    try:
        return build()
    except (BadSettingsError, SchemaOutdatedError) as error:
        logging.basicConfig()
        logging.getLogger("orderflow").critical("%s", error)
        raise SystemExit(2 if isinstance(error, BadSettingsError) else 3) from None


def configure(kind: type[S], stage: str, load: Callable[[type[S]], S] = environment.load) -> S:
    """The stage's settings. From here on, every log line has the stage and its revision."""
    settings = load(kind)
    logs.configure(settings.log_level, stage=stage, revision=settings.k_revision)
    return settings


def telemetry(settings: StageSettings, stage: str) -> NoopTelemetry | Telemetry:
    """Imports OpenTelemetry only where traces are recorded: the import adds most of a second to a cold start."""
    if settings.otel_exporter_otlp_endpoint is None:
        return NoopTelemetry()
    from orderflow.adapters.telemetry.traces import Telemetry

    return Telemetry(settings, settings.otel_exporter_otlp_endpoint, stage)


def authenticated(endpoint: Endpoint, settings: SenderSettings) -> Endpoint:
    """The endpoint behind the check of the sender's token, where the OIDC settings are set. Imports PyJWT only there,
    because the import makes a cold start slower.

    Raises BadSettingsError where only some of the settings are set, or OIDC_CA_FILE cannot be read.
    """
    return _behind(settings.token_rules(), endpoint)


def judging(events: Endpoint, judge: Judge, settings: JudgingSettings) -> Endpoint:
    """The endpoint of a stage's events, and `/judge` beside it.

    Where the OIDC settings are set, the two take the tokens of different senders: whoever may have an event judged may
    not send one. Raises BadSettingsError as authenticated() does.
    """
    from orderflow.adapters.http.judge_endpoint import JudgeEndpoint, Judging

    judgements = _behind(settings.judge_token_rules(), JudgeEndpoint(judge))
    return Judging(judgements, authenticated(events, settings))


def _behind(rules: TokenRules | None, endpoint: Endpoint) -> Endpoint:
    if rules is None:
        return endpoint
    from orderflow.adapters.http.oidc import Authenticated
    from orderflow.adapters.http.token_verifier import KeySetClient, SigningKeys, TokenVerifier

    return Authenticated(endpoint, TokenVerifier(rules, SigningKeys(KeySetClient(rules).fetch)))


def kafka_publisher(settings: KafkaSettings, traces: NoopTelemetry | Telemetry) -> Publisher:
    from orderflow.adapters.kafka.producer import KafkaPublisher

    publisher = KafkaPublisher(settings)
    _connect_in_background(publisher.connect)
    return traces.publisher(publisher)


def topic_ids(settings: KafkaSettings, *names: str) -> TopicIds:
    """names are the topics whose records the stage sees."""
    from orderflow.adapters.kafka.topic_ids import KafkaTopicIds

    ids = KafkaTopicIds(settings, names)
    _connect_in_background(ids.connect)
    return ids


def handled_places(pool: Database) -> HandledPlaces:
    from orderflow.adapters.postgres.handled_store import HandledStore
    from orderflow.messaging.handled_places import HandledPlaces

    return HandledPlaces(HandledStore(pool))


def database(settings: DatabaseSettings) -> Database:
    """Raises SchemaOutdatedError where the database lacks a migration that this release needs."""
    from orderflow.adapters.postgres.pool import Database
    from orderflow.adapters.postgres.schema import check_schema

    check_schema(settings)
    pool = Database(settings)
    _connect_in_background(pool.connect)
    return pool


def _connect_in_background(connect: Callable[[], Coroutine[None, None, None]]) -> None:
    """Connects while the platform still waits for the process, so that the first event need not wait. An idempotent
    producer needs about 0.5 s to obtain its producer ID.

    Does nothing where no event loop runs: there the function is imported before a fork, and a client that is created
    before a fork does not work after it. A server that is away does not fail the start, but the first event.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    task = loop.create_task(connect(), context=Context())
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)
