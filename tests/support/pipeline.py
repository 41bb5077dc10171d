"""The pipeline with its stages' own code on real Kafka and PostgreSQL, delivered by hand: what is dropped, left
undelivered or done by half is for the test to say."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from psycopg.rows import dict_row
from pydantic import SecretStr

from orderflow.adapters.kafka.gap_reader import GapReader
from orderflow.adapters.kafka.kafka_record import KafkaRecord, read, received_event
from orderflow.adapters.kafka.log import Log
from orderflow.adapters.kafka.producer import KafkaPublisher
from orderflow.adapters.postgres.handled_store import HandledStore
from orderflow.adapters.postgres.pool import Database
from orderflow.audit.report import Report
from orderflow.audit.run import Audit, AuditOptions
from orderflow.audit.store import AuditStore
from orderflow.domain.rules import Rules, Waiting
from orderflow.errors import PoisonError, TransientError
from orderflow.messaging import parked_event, topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.handled_places import HandledPlaces, records_places
from orderflow.messaging.publisher import Publisher
from orderflow.notify import due
from orderflow.notify.claims import ClaimStore
from orderflow.notify.handler import Channel, Notifier
from orderflow.notify.history import HistoryStore
from orderflow.notify.model import EMAIL, Delivery, DeliveryResult, Handover, Notification, StatusChange
from orderflow.notify.settings import NotificationSettings
from orderflow.settings import DatabaseSettings, KafkaSettings
from orderflow.shelve.action_store import ActionStore
from orderflow.shelve.handler import ActionHandler
from orderflow.shelve.parked_store import ParkedEventStore
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore
from orderflow.validate.handler import validate
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.topics import admin_client
from support.waiting import DEADLINE_SECONDS, until

PARTITIONS = 4
NOTIFICATIONS = NotificationSettings.model_validate(
    {
        "shop": {"name": "Shop", "url": "https://shop.example"},
        "email": {"from": "orders@shop.example", "smtp_url": "smtp://127.0.0.1:1"},
    }
)
STAGES = {
    "validate": topics.INBOX,
    "track": topics.EVENTS,
    "notify": topics.STATUS,
    "shelve": topics.PARKED,
}


class Mailbox:
    """A channel that keeps what it is to send."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []
        self.changes: list[StatusChange] = []

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        await handover.once(lambda: self._keep(notification))
        return Delivery(DeliveryResult.SENT)

    async def _keep(self, notification: Notification) -> None:
        self.mails.append((notification.event.id, notification.recipient))
        self.changes.append(notification.change)


class Changed:
    """A publisher of a faulty stage, which changes the events of a topic before it publishes them, or leaves them out
    (None)."""

    def __init__(
        self, publisher: Publisher, topic: str, change: Callable[[CloudEvent], CloudEvent | None]
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._change = change

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        changed = [self._change(event) if topic == self._topic else event for event in events]
        await self._publisher.publish(topic, [event for event in changed if event is not None])


class DeadError(Exception):
    """The process is gone."""


class Deaf:
    """A publisher whose process dies before anything is published."""

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        if events:
            raise DeadError


class Pipeline:
    """One pipeline with empty topics and an empty database."""

    def __init__(self, bootstrap: str, database_url: str) -> None:
        self.bootstrap = bootstrap
        self.url = database_url
        self.mailbox = Mailbox()
        self.channel: Channel = self.mailbox
        self.change_status: Callable[[CloudEvent], CloudEvent | None] = lambda event: event
        """What track makes of each status event before it publishes the event."""
        self.lease_seconds = 60.0
        self._settings = DatabaseSettings(database_url=SecretStr(database_url))
        self.publisher = KafkaPublisher(KafkaSettings(kafka_bootstrap=bootstrap))
        self._producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
        self._empty()

    def _empty(self) -> None:
        admin = admin_client(self.bootstrap)
        existing = set(admin.list_topics(timeout=20).topics) & set(topics.ALL)
        if existing:
            for future in admin.delete_topics(list(existing)).values():
                future.result()
        until(lambda: not set(admin.list_topics(timeout=20).topics) & set(topics.ALL))
        create_order_topics(self.bootstrap, PARTITIONS)
        log = Log({"bootstrap.servers": self.bootstrap})
        for stage, topic in STAGES.items():
            until(lambda stage=stage, topic=topic: _answers(log, stage, topic))  # type: ignore[misc]

    async def topic_id(self, topic: str) -> str:
        return await asyncio.to_thread(
            lambda: Log({"bootstrap.servers": self.bootstrap}).describe(topic).topic_id
        )

    def put(self, topic: str, *events: CloudEvent) -> None:
        for each in events:
            self._producer.produce(topic, each.data, each.key or None, headers=each.kafka_headers())
        assert self._producer.flush(20) == 0

    def put_raw(self, topic: str, value: bytes | None, key: bytes | None = None, headers: Any = None) -> None:
        self._producer.produce(topic, value, key, headers=headers)
        assert self._producer.flush(20) == 0

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def run(self, *steps: Callable[["Stages"], Any]) -> Any:
        """Runs the steps one after the other in one event loop; returns what the last one gave."""

        async def all_of_them() -> Any:
            async with Stages.open(self) as stages:
                result = None
                for step in steps:
                    result = await step(stages)
                return result

        return asyncio.run(all_of_them())

    def deliver(
        self, *stages: str, drop: Callable[[KafkaRecord], bool] = lambda _: False, dies: bool = False
    ) -> int:
        """Delivers what is new to each stage, one after the other, and commits. What drop says is committed and
        not delivered, as KafkaSource does when retries and the dead-letter sink have failed. With dies the stage's
        process ends after its commit, before it announces anything. Returns how many were delivered."""
        return sum(
            self.run(lambda handlers, stage=stage: handlers.deliver(stage, drop, dies=dies))
            for stage in stages
        )

    def drop_unread(self, stage: str) -> None:
        """Drops all that is new to the stage, without reading it."""
        log = Log({"bootstrap.servers": self.bootstrap})
        ends = {p: each.end for p, each in log.offset_ranges(STAGES[stage]).items()}
        _commit(self.bootstrap, stage, ends)

    def all_stages(self) -> None:
        """Delivers until nothing is new anywhere."""
        while self.deliver(*STAGES):
            pass

    def audit(
        self, *, grace: float = 0, publisher: Publisher | None = None, log: Log | None = None, **options: Any
    ) -> Report | None:
        """One run."""
        return self.run(lambda handlers: handlers.audit(grace, publisher, options, log))  # type: ignore[no-any-return]

    def move_group(self, stage: str, offset: int) -> None:
        """Resets a consumer group, as an operator may do."""
        _commit(self.bootstrap, stage, dict.fromkeys(range(PARTITIONS), offset))

    def log(self, topic: str) -> list[CloudEvent]:
        """All events of a topic that can be read, by partition."""
        events = []
        log = Log({"bootstrap.servers": self.bootstrap})
        ranges = {p: (each.start, each.end) for p, each in log.offset_ranges(topic).items()}
        for batch in log.read(topic, ranges):
            for message in batch:
                with contextlib.suppress(PoisonError):
                    events.append(read(KafkaRecord.of(message)))
        return events


class Stages:
    """The stages' handlers in one event loop."""

    def __init__(self, pipeline: Pipeline, database: Database) -> None:
        self._pipeline = pipeline
        self.database = database
        self._publisher = pipeline.publisher
        self._log = Log({"bootstrap.servers": pipeline.bootstrap})
        self._places = HandledPlaces(HandledStore(database))

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, pipeline: Pipeline) -> Any:
        database = Database(pipeline._settings)
        stages = cls(pipeline, database)
        try:
            yield stages
        finally:
            await stages._places.flush()
            await database.close()

    async def deliver(self, stage: str, drop: Callable[[KafkaRecord], bool], *, dies: bool) -> int:
        delivered = 0
        topic = STAGES[stage]
        offsets = self._log.offset_ranges(topic)
        committed = self._log.committed(f"orderflow-{stage}", topic, list(offsets))
        ranges = {p: (committed.get(p, each.start), each.end) for p, each in offsets.items()}
        for batch in self._log.read(topic, ranges):
            for message in batch:
                if not drop(KafkaRecord.of(message)):
                    await self._take(stage, message, dies=dies)
                    delivered += 1
        _commit(self._pipeline.bootstrap, stage, {p: each.end for p, each in offsets.items()})
        return delivered

    async def _take(self, stage: str, message: Message, *, dies: bool) -> None:
        """Delivers the record until the stage takes it, as KafkaSource does."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                return await self._take_once(stage, message, dies=dies)
            except TransientError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.01)

    async def _take_once(self, stage: str, message: Message, *, dies: bool) -> None:
        record = KafkaRecord.of(message)
        try:
            event = received(record, await self._pipeline.topic_id(record.topic))
            await self._handle(stage, event, Deaf() if dies else self._publisher)
        except PoisonError as error:
            parked = parked_event.parked(
                received_event(record),
                stage=stage,
                revision="r",
                reasons=error.reasons,
                topic_id=await self._pipeline.topic_id(record.topic),
            )
            await self._publisher.publish(topics.PARKED, [parked])
        except DeadError:
            assert dies

    async def _handle(self, stage: str, event: CloudEvent, publisher: Publisher) -> None:
        async def handle(event: CloudEvent) -> str:
            await self._do(stage, event, publisher)
            return ""

        await (handle if stage == "validate" else records_places(handle, self._places, stage))(event)

    async def _do(self, stage: str, event: CloudEvent, publisher: Publisher) -> None:
        match stage:
            case "validate":
                await publisher.publish(topics.EVENTS, [validate(event, Rules())])
            case "track":
                store = OrderStore(self.database, revision="r", waiting=Waiting())
                changed = Changed(publisher, topics.STATUS, self._pipeline.change_status)
                await Tracker(store, changed, self._places, "r").handle(event)
            case "notify":
                lease = self._pipeline.lease_seconds
                claims = ClaimStore(self.database, revision="r", lease_seconds=lease)
                channels = {EMAIL: self._pipeline.channel}
                history = HistoryStore(self.database)
                await Notifier(NOTIFICATIONS, channels, claims, history, lease_seconds=lease).handle(event)
            case "shelve":
                parked_events, actions = ParkedEventStore(self.database), ActionStore(self.database)
                await ActionHandler(parked_events, actions, publisher, self._places).handle(event)

    async def audit(
        self, grace: float, publisher: Publisher | None, options: dict[str, Any], log: Log | None = None
    ) -> Report | None:
        orders = OrderStore(self.database, revision="audit", waiting=Waiting())
        through = publisher or self._publisher
        values = {
            "grace": timedelta(seconds=grace),
            "settle_seconds": 0,
            "max_duration": timedelta(seconds=60),
            "republish_per_second": 1000,
            "revision": "audit-00001",
        } | options
        config = {"bootstrap.servers": self._pipeline.bootstrap}
        async with AuditStore.open(self._pipeline._settings) as store, GapReader(config) as reader:
            if store is None:
                return None
            audit = Audit(
                log=log or self._log,
                reader=reader,
                store=store,
                places=HandledStore(self.database),
                publisher=through,
                parked_events=ParkedEventStore(self.database),
                sweep=Tracker(orders, through, self._places, "audit-00001").sweep,
                has_due_notification=partial(due.is_due, settings=NOTIFICATIONS),
                options=AuditOptions(**values),
            )
            return await audit.run()


def received(record: KafkaRecord, topic_id: str) -> CloudEvent:
    """The event as a stage gets it from KafkaSource. Raises PoisonError."""
    place = {"knativekafkapartition": str(record.partition), "knativekafkaoffset": str(record.offset)}
    return read(record).with_extensions(**place).delivered_from(topic_id)


def _answers(log: Log, stage: str, topic: str) -> bool:
    """A broker that has just started still loads what groups have committed."""
    with contextlib.suppress(TransientError):
        log.committed(f"orderflow-{stage}", topic, range(PARTITIONS))
        return True
    return False


def _commit(bootstrap: str, stage: str, offsets: dict[int, int]) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"orderflow-{stage}"})
    places = [TopicPartition(STAGES[stage], partition, offset) for partition, offset in offsets.items()]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()
