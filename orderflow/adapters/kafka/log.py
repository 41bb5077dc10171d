"""The topics' logs as the audit reads them: where they begin and end, how far each stage has come, and the records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from orderflow.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from datetime import datetime

    from confluent_kafka import Message

Place = tuple[str, int]
"""A topic and one of its partitions."""

BATCH: Final = 5000
_WAIT_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 30.0
_FILL_SECONDS: Final = 0.05
_OF_THE_GROUP: Final = {"GROUP_AUTHORIZATION_FAILED"}
"""librdkafka asks for its group's coordinator unasked, and says of partition 0 that it was refused."""
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The log of one partition: the first offset that is still there, and the offset that the next record will get."""

    start: int
    end: int


class Log:
    """Raises UnavailableError where Kafka does not answer. Reading joins no group and moves nobody's offsets."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """config is librdkafka's, of a client."""
        self._config = dict(config)
        self._admin = AdminClient(self._config)

    def offset_ranges(self, topic: str) -> dict[int, OffsetRange]:
        """By partition. Raises UnavailableError where there is no such topic, too."""
        try:
            found = self._admin.list_topics(topic, timeout=_WAIT_SECONDS).topics[topic]
            if found.error is not None:
                raise UnavailableError(f"Kafka has no topic {topic}: {found.error.name()}")
            starts, ends = (self._offsets(topic, found.partitions, spec) for spec in (_EARLIEST, _LATEST))
        except KafkaException as error:
            raise _away(error) from None
        return {partition: OffsetRange(starts[partition], ends[partition]) for partition in starts}

    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        try:
            return self._offsets(topic, partitions, _LATEST)
        except KafkaException as error:
            raise _away(error) from None

    def since(self, topic: str, partitions: Sequence[int], when: datetime) -> dict[int, int]:
        """The offset of the first record of each partition that is not older; its end where all are."""
        try:
            found = self._offsets(topic, partitions, OffsetSpec.for_timestamp(int(when.timestamp() * 1000)))
            ends = self._offsets(topic, partitions, _LATEST)
        except KafkaException as error:
            raise _away(error) from None
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    def _offsets(self, topic: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
        wanted = {TopicPartition(topic, partition): spec for partition in partitions}
        futures = self._admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_WAIT_SECONDS
        )
        return {place.partition: future.result().offset for place, future in futures.items()}

    def committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The offset of the next record that the group is to get; left out where it has committed none."""
        try:
            found = committed_offsets(self._config, group, [(topic, partition) for partition in partitions])
        except KafkaException as error:
            raise _away(error) from None
        return {partition: offset for (_, partition), offset in found.items() if offset >= 0}

    def read(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Generator[list[Message]]:
        """The records of each partition from its first offset up to, without, its second, in batches; those of
        one partition come in sequence. Offsets that a transaction or compaction took may be missing."""
        left = {partition: until for partition, (begin, until) in ranges.items() if begin < until}
        consumer = Consumer(
            self._config
            | {
                "group.id": "orderflow-audit",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_uncommitted",
                "enable.partition.eof": True,
                "queued.min.messages": BATCH,
                "queued.max.messages.kbytes": 2048,  # of each partition
                "fetch.queue.backoff.ms": 10,
            }
        )
        try:
            consumer.assign([TopicPartition(topic, partition, ranges[partition][0]) for partition in left])
            heard = time.monotonic()
            while left:
                # It returns when the batch is full or the time is over, whatever has come by then.
                if messages := consumer.consume(BATCH, _FILL_SECONDS):
                    heard = time.monotonic()
                    yield _within(consumer, topic, messages, left)
                elif time.monotonic() - heard > _SILENCE_SECONDS:
                    raise UnavailableError("Kafka sends no records")
        except KafkaException as error:
            raise _away(error) from None
        finally:
            consumer.close()


def _within(
    consumer: Consumer, topic: str, messages: Sequence[Message], left: dict[int, int]
) -> list[Message]:
    """Takes partitions out of left as their ends are reached."""
    wanted: list[Message] = []
    done: list[int] = []
    for message in messages:
        partition, offset, error = message.partition(), message.offset() or 0, message.error()
        if (
            partition is None
            or partition not in left
            or (error is not None and error.name() in _OF_THE_GROUP)
        ):
            continue
        if error is not None and error.name() != "_PARTITION_EOF":
            raise UnavailableError(f"Kafka does not let its log be read: {error.name()}")
        if error is None and offset < left[partition]:
            wanted.append(message)
        if error is not None or offset + 1 >= left[partition]:
            del left[partition]
            done.append(partition)
    _let_go(consumer, topic, done)
    return wanted


def _let_go(consumer: Consumer, topic: str, partitions: Sequence[int]) -> None:
    if partitions:
        consumer.incremental_unassign([TopicPartition(topic, partition) for partition in partitions])


def committed_offsets(config: Mapping[str, Any], group: str, places: Sequence[Place]) -> dict[Place, int]:
    """The offset of the next record that the group is to get of each place; negative where it has committed none.
    Raises KafkaException.

    AdminClient.list_consumer_group_offsets would do, but librdkafka (2.16.0) follows a null pointer in it where the
    group's coordinator is just loading. A consumer that only asks joins nothing.
    """
    consumer = Consumer(dict(config) | {"group.id": group, "enable.auto.commit": False})
    try:
        found = consumer.committed([TopicPartition(*place) for place in places], timeout=_WAIT_SECONDS)
    finally:
        consumer.close()
    return {(place.topic, place.partition): place.offset for place in found}


def _away(error: KafkaException) -> UnavailableError:
    return UnavailableError(f"Kafka does not answer: {error.args[0].name()}")


def partition_of(key: bytes, partitions: int) -> int:
    """Where our producers put a key: murmur2 as Kafka's own clients have it (DefaultPartitioner)."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    value = (0x9747B28C ^ len(key)) & mask
    whole = len(key) & ~3
    for place in range(0, whole, 4):
        part = int.from_bytes(key[place : place + 4], "little") * multiplier & mask
        part = (part ^ part >> 24) * multiplier & mask
        value = (value * multiplier & mask) ^ part
    if rest := key[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return ((value ^ value >> 15) & 0x7FFFFFFF) % partitions
