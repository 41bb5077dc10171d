"""Embedded Kafka and PostgreSQL at full durability, and the operations that a run needs."""

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
"""All tables of Orderflow, without yoyo's."""
_TIMEOUT: Final = 30.0
_PAUSE: Final = 0.1
_AUTOVACUUM_OFF: Final = {"autovacuum": "off"}
"""Autovacuum would slow one contender's run and not the next. Every run starts with empty tables instead."""

Offsets = dict[int, int]
"""Offsets by partition."""
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the same


@dataclass(frozen=True, slots=True)
class ServersCpu:
    """CPU seconds since the start of each server."""

    kafka: float
    postgres: float

    def since(self, before: ServersCpu) -> ServersCpu:
        return ServersCpu(self.kafka - before.kafka, self.postgres - before.postgres)


class Lab:
    """The servers of a benchmark, its topics (each with so many partitions) and its database."""

    def __init__(self, cores: Cores, partitions: int) -> None:
        self.cores = cores
        self.partitions = partitions
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.cores.pin_this_process()
        prepare()
        # PostgreSQL must be able to enter the folder: started by root, it runs as another user.
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
                # As in orderflow.adapters.kafka.producer, so that consumers get batches of the usual size.
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
        tables = self.query_row(_TABLES)[0]
        self._database.execute(f"TRUNCATE {tables}")
        self._database.execute("CHECKPOINT")

    def query_row(self, query: str) -> tuple[object, ...]:
        row = self._database.execute(query).fetchone()
        assert row is not None  # noqa: S101 - every query of the benchmark is an aggregate
        return row

    def query_rows(self, query: str) -> list[tuple[object, ...]]:
        return self._database.execute(query).fetchall()

    def publish(self, topic: str, events: Sequence[CloudEvent], *, rate: float | None = None) -> None:
        """Publishes the events in sequence, at most `rate` per second. Returns when Kafka has confirmed all."""
        errors: list[str] = []

        def on_delivery(error: object, _message: Message) -> None:
            if error is not None:
                errors.append(str(error))

        started_at = time.monotonic()
        for number, event in enumerate(events):
            if rate is not None:
                while (ahead := started_at + number / rate - time.monotonic()) > 0:
                    self._producer.poll(ahead)
            self._producer.produce(
                topic, event.data, event.key, headers=event.kafka_headers(), on_delivery=on_delivery
            )
            self._producer.poll(0)
        if self._producer.flush(_TIMEOUT) or errors:
            raise RuntimeError(f"Kafka did not confirm the load: {errors[:1]}")

    def end_offsets(self, topic: str) -> Offsets:
        """Of each partition, the offset that the next record will get."""
        specs = {TopicPartition(topic, partition): _LATEST for partition in range(self.partitions)}
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                futures = self._admin.list_offsets(specs, request_timeout=_TIMEOUT)
                return {place.partition: future.result().offset for place, future in futures.items()}
            except KafkaException:
                # A new topic has leaders before every broker thread knows the topic.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def commit(self, group: str, topic: str, offsets: Offsets) -> None:
        """Makes the group start at these offsets, so that it gets no older record."""
        consumer = self._consumer(group)
        places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def committed(self, group: str, topic: str) -> Offsets:
        consumer = self._consumer(group)
        places = [TopicPartition(topic, partition) for partition in range(self.partitions)]
        committed = consumer.committed(places, timeout=_TIMEOUT)
        consumer.close()
        return {place.partition: place.offset for place in committed}

    def read(self, topic: str, start: Offsets, end: Offsets) -> list[Message]:
        """The records from start to end (exclusive); those of one partition are in sequence."""
        consumer = self._consumer("bench-reader")
        records: list[Message] = []
        pending = {partition for partition in end if end[partition] > start[partition]}
        consumer.assign([TopicPartition(topic, partition, start[partition]) for partition in pending])
        while pending:
            messages = consumer.consume(1000, _TIMEOUT)
            if not messages:
                raise TimeoutError(f"{topic} cannot be read to its end")
            for message in messages:
                if (error := message.error()) is not None:
                    raise RuntimeError(error.str())
                partition, offset = message.partition(), message.offset()
                assert partition is not None  # noqa: S101 - a consumed record has its place
                assert offset is not None  # noqa: S101
                records.append(message)
                if offset + 1 >= end[partition]:
                    pending.discard(partition)
        consumer.close()
        return records

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
        """A folder with the manifests of these KafkaSources."""
        folder = self.folder / f"sources-{'-'.join(names)}"
        folder.mkdir(exist_ok=True)
        for name in names:
            text = (ROOT / "kafka-source/base" / f"{name}.yaml").read_text()
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(yaml.safe_load(text)))
        return folder
