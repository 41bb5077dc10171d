"""Embedded Kafka and PostgreSQL at full durability, and what a run needs of them."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psycopg
import yaml
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs forget it

from bench.machine import ROOT, Cores, cpu_seconds
from orderflow.adapters.postgres.schema import migrate
from orderflow.messaging import topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka, prepare
from orderflow_sandbox.servers.postgres import EmbeddedPostgres
from orderflow_sandbox.servers.topics import admin_client, create_topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from orderflow.messaging.cloudevent import CloudEvent

_TABLES: Final = """
SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public' AND tablename !~ 'yoyo'
"""
"""All of ours; the migrations' own stay."""
_TIMEOUT: Final = 30.0
_PAUSE: Final = 0.1
_AUTOVACUUM_OFF: Final = {"autovacuum": "off"}
"""Or it hits one contender's run and not the next one's: every run starts on vacuumed, empty tables instead."""

Ends = dict[int, int]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the same


@dataclass(frozen=True, slots=True)
class ServersCpu:
    """Seconds taken so far."""

    kafka: float
    postgres: float

    def since(self, before: ServersCpu) -> ServersCpu:
        return ServersCpu(self.kafka - before.kafka, self.postgres - before.postgres)


class Lab:
    """The servers of one bench, its topics (all with `partitions`) and its database."""

    def __init__(self, cores: Cores, partitions: int) -> None:
        self.cores = cores
        self.partitions = partitions
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.cores.settle_here()
        prepare()
        # Not the user's own temporary folder: run by root, PostgreSQL is another user's process.
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="orderflow-bench-")))
        self.folder.chmod(0o755)
        self._kafka = self._stack.enter_context(EmbeddedKafka(self.folder / "kafka"))
        self._postgres = self._stack.enter_context(
            EmbeddedPostgres(self.folder / "postgres", settings=_AUTOVACUUM_OFF)
        )
        self.bootstrap = self._kafka.bootstrap
        self.database_url = self._postgres.url
        create_topics(self.bootstrap, topics.ALL, partitions=self.partitions)
        migrate(self.database_url)
        self._admin = admin_client(self.bootstrap)
        self._producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                # As in orderflow.adapters.kafka.producer, so that consumers get batches of the real size.
                "batch.size": 32768,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )
        self._database = self._stack.enter_context(psycopg.connect(self.database_url, autocommit=True))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def environment(self) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "DATABASE_URL": self.database_url,
            "RULES_FILE": str(ROOT / "examples/rules.toml"),
        }

    def cpu(self) -> ServersCpu:
        return ServersCpu(cpu_seconds(self._kafka.pid), cpu_seconds(self._postgres.pid))

    def empty_tables(self) -> None:
        tables = self.one(_TABLES)[0]
        self._database.execute(f"TRUNCATE {tables}")
        self._database.execute("CHECKPOINT")

    def one(self, query: str) -> tuple[object, ...]:
        row = self._database.execute(query).fetchone()
        assert row is not None  # noqa: S101 - every query of the bench is an aggregate
        return row

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self._database.execute(query).fetchall()

    def publish(self, topic: str, events: Sequence[CloudEvent], *, rate: float | None = None) -> None:
        """All of them, acknowledged, in their order per key; at most `rate` a second."""
        failed: list[str] = []

        def answered(error: object, _message: Message) -> None:
            if error is not None:
                failed.append(str(error))

        started = time.monotonic()
        for number, event in enumerate(events):
            if rate is not None:
                while (ahead := started + number / rate - time.monotonic()) > 0:
                    self._producer.poll(ahead)
            self._producer.produce(
                topic, event.data, event.key, headers=event.kafka_headers(), on_delivery=answered
            )
            self._producer.poll(0)
        if self._producer.flush(_TIMEOUT) or failed:
            raise RuntimeError(f"Kafka did not take the load: {failed[:1]}")

    def ends(self, topic: str) -> Ends:
        """The offset behind the last record of each partition."""
        asked = {TopicPartition(topic, number): _LATEST for number in range(self.partitions)}
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                answers = self._admin.list_offsets(asked, request_timeout=_TIMEOUT)
                return {place.partition: answer.result().offset for place, answer in answers.items()}
            except KafkaException:
                # A topic that is new has leaders before every broker thread knows of it.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def skip_to(self, group: str, topic: str, ends: Ends) -> None:
        """Makes the group start there, so that it gets what comes after and nothing older."""
        consumer = self._consumer(group)
        places = [TopicPartition(topic, number, offset) for number, offset in ends.items()]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def committed(self, group: str, topic: str) -> Ends:
        consumer = self._consumer(group)
        places = [TopicPartition(topic, number) for number in range(self.partitions)]
        found = consumer.committed(places, timeout=_TIMEOUT)
        consumer.close()
        return {place.partition: place.offset for place in found}

    def between(self, topic: str, start: Ends, end: Ends) -> list[Message]:
        """The records from start to end, partition by partition, each in its order."""
        consumer = self._consumer("bench-reader")
        found: list[Message] = []
        wanted = {number: end[number] for number in end if end[number] > start[number]}
        consumer.assign([TopicPartition(topic, number, start[number]) for number in wanted])
        while wanted:
            messages = consumer.consume(1000, _TIMEOUT)
            if not messages:
                raise TimeoutError(f"{topic} cannot be read to its end")
            for message in messages:
                if (error := message.error()) is not None:
                    raise RuntimeError(error.str())
                number, offset = message.partition(), message.offset()
                assert number is not None  # noqa: S101 - a consumed record has its place
                assert offset is not None  # noqa: S101
                found.append(message)
                if offset + 1 >= end[number]:
                    wanted.pop(number, None)
        consumer.close()
        return found

    def _consumer(self, group: str) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
            }
        )

    def manifests(self, *names: str) -> Path:
        """A folder with these KafkaSources of ours, as they are."""
        folder = self.folder / f"sources-{'-'.join(names)}"
        folder.mkdir(exist_ok=True)
        for name in names:
            text = (ROOT / "kafka-source/base" / f"{name}.yaml").read_text()
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(yaml.safe_load(text)))
        return folder
