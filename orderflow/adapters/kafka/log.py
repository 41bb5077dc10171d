"""The logs of the topics, for the audit: their offsets, the stages' committed offsets, and their records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ListOffsetsResultInfo,
    OffsetSpec,
)

from orderflow.adapters.kafka.topic_ids import topic_ids
from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from datetime import datetime

    from confluent_kafka import Message

Place = tuple[str, int]
"""A topic and one of its partitions."""

BATCH: Final = 5000
_REQUEST_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 30.0
_FILL_SECONDS: Final = 0.05
_GROUP_ERRORS: Final = {"GROUP_AUTHORIZATION_FAILED"}
"""Errors that do not concern the records: librdkafka looks for its group's coordinator although no group is joined, and
reports the refusal as an error of partition 0."""
_RECORD_ERRORS: Final = {"_BAD_COMPRESSION", "_BAD_MSG", "_UNDERFLOW", "_NOT_IMPLEMENTED", "INVALID_MSG"}
"""Errors of a record that librdkafka cannot unpack or understand, such as one that is larger unpacked than
receive.message.max.bytes."""
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The log of one partition: the first offset that is still there, and the offset after the last record that is
    committed (the last stable offset)."""

    start: int
    end: int
    leader_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class TopicLog:
    """partitions are the offset ranges by partition."""

    topic_id: str
    partitions: dict[int, OffsetRange]


class UnreadableError(TransientError):
    """One of the records that were to be read cannot be read. No repetition helps."""


class Log:
    """Each method raises TransientError where Kafka does not answer. Reading joins no group and commits no offset."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """config has librdkafka's properties for a client."""
        # An error is raised, so librdkafka need not also print it, at each of its attempts.
        self._config = dict(config) | {"log_level": 2}
        self._admin = AdminClient(self._config)

    def offset_ranges(self, topic: str) -> dict[int, OffsetRange]:
        """The offset ranges by partition. Raises TransientError also where the topic does not exist."""
        try:
            metadata = self._admin.list_topics(topic, timeout=_REQUEST_SECONDS).topics[topic]
            if metadata.error is not None:
                raise TransientError(f"Kafka has no topic {topic}: {metadata.error.name()}")
            starts, ends = (self._results(topic, metadata.partitions, spec) for spec in (_EARLIEST, _LATEST))
        except KafkaException as error:
            raise _unavailable(error) from None
        return {
            partition: OffsetRange(starts[partition].offset, end.offset, end.leader_epoch)
            for partition, end in ends.items()
        }

    def describe(self, topic: str) -> TopicLog:
        """Raises TransientError also where the topic does not exist, or is made anew at this moment."""
        try:
            before = topic_ids(self._admin, [topic], _REQUEST_SECONDS)
            partitions = self.offset_ranges(topic)
            after = topic_ids(self._admin, [topic], _REQUEST_SECONDS)
        except KafkaException as error:
            raise _unavailable(error) from None
        if topic not in after or before != after:
            raise TransientError(f"Kafka does not say which topic {topic} is")
        return TopicLog(after[topic], partitions)

    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        try:
            return self._offsets(topic, partitions, _LATEST)
        except KafkaException as error:
            raise _unavailable(error) from None

    def watermarks(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The offset after the last record that is replicated, whether its transaction is committed or not."""
        try:
            results = self._results(topic, partitions, _LATEST, IsolationLevel.READ_UNCOMMITTED)
        except KafkaException as error:
            raise _unavailable(error) from None
        return {partition: result.offset for partition, result in results.items()}

    def since(self, topic: str, partitions: Sequence[int], when: datetime) -> dict[int, int]:
        """By partition, the offset of the first record that is not older than `when`; the end offset where every record
        is older."""
        spec = OffsetSpec.for_timestamp(int(when.timestamp() * 1000))
        try:
            offsets = self._offsets(topic, partitions, spec)
            ends = self._offsets(topic, partitions, _LATEST)
        except KafkaException as error:
            raise _unavailable(error) from None
        return {
            partition: offset if offset >= 0 else ends[partition] for partition, offset in offsets.items()
        }

    def _offsets(self, topic: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
        return {
            partition: result.offset for partition, result in self._results(topic, partitions, spec).items()
        }

    def _results(
        self,
        topic: str,
        partitions: Iterable[int],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> dict[int, ListOffsetsResultInfo]:
        """read_committed, as KafkaSource reads."""
        specs = {TopicPartition(topic, partition): spec for partition in partitions}
        futures = self._admin.list_offsets(specs, isolation_level=isolation, request_timeout=_REQUEST_SECONDS)
        return {place.partition: future.result() for place, future in futures.items()}

    def committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """By partition, the group's committed offset: that of the next record for the group. A partition without a
        committed offset is left out."""
        places = [(topic, partition) for partition in partitions]
        try:
            offsets = committed_offsets(self._config, group, places)
        except KafkaException as error:
            raise _unavailable(error) from None
        return {partition: offset for (_, partition), offset in offsets.items() if offset >= 0}

    def read(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Generator[list[Message]]:
        """Yields the records of each partition's range (first offset, end offset exclusive) in batches.

        The records of one partition come in sequence. Offsets are missing that belong to a transaction's markers or to
        an aborted transaction, and those that compaction removed. Raises UnreadableError.
        """
        pending = {partition: end for partition, (start, end) in ranges.items() if start < end}
        consumer = Consumer(
            self._config
            | {
                "group.id": "orderflow-audit",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "queued.min.messages": BATCH,
                "queued.max.messages.kbytes": 2048,  # per partition
                "fetch.queue.backoff.ms": 10,
            }
        )
        try:
            consumer.assign([TopicPartition(topic, partition, ranges[partition][0]) for partition in pending])
            last_records_at = time.monotonic()
            while pending:
                # consume() returns when the batch is full or the time is over, with the messages that have come.
                if messages := consumer.consume(BATCH, _FILL_SECONDS):
                    last_records_at = time.monotonic()
                    yield _records_in_range(consumer, topic, messages, pending)
                elif time.monotonic() - last_records_at > _SILENCE_SECONDS:
                    raise TransientError("Kafka sends no records")
        except KafkaException as error:
            raise _unavailable(error) from None
        finally:
            consumer.close()


def _records_in_range(
    consumer: Consumer, topic: str, messages: Sequence[Message], pending: dict[int, int]
) -> list[Message]:
    """Removes each partition whose end is reached from pending (end offset by partition) and from the consumer."""
    records: list[Message] = []
    completed: list[int] = []
    for message in messages:
        partition, offset, error = message.partition(), message.offset() or 0, message.error()
        if (
            partition is None
            or partition not in pending
            or (error is not None and error.name() in _GROUP_ERRORS)
        ):
            continue
        if error is not None and error.name() in _RECORD_ERRORS:
            raise UnreadableError(f"a record cannot be read: {error.name()}")
        if error is not None and error.name() != "_PARTITION_EOF":
            raise TransientError(f"Kafka does not let its log be read: {error.name()}")
        if error is None and offset < pending[partition]:
            records.append(message)
        # The end of a log that is still short of a range's end is no end: a new leader may not know yet what the old
        # leader had confirmed.
        if offset + (error is None) >= pending[partition]:
            del pending[partition]
            completed.append(partition)
    if completed:
        consumer.incremental_unassign([TopicPartition(topic, partition) for partition in completed])
    return records


def committed_offsets(config: Mapping[str, Any], group: str, places: Sequence[Place]) -> dict[Place, int]:
    """The group's committed offset at each place; negative where it has committed none. Raises KafkaException.

    It does not use AdminClient.list_consumer_group_offsets, because librdkafka (2.16.0) follows a null pointer in that
    call while the group's coordinator is loading. A consumer that only asks for offsets joins no group.
    """
    consumer = Consumer(dict(config) | {"group.id": group, "enable.auto.commit": False})
    try:
        partitions = consumer.committed(
            [TopicPartition(*place) for place in places], timeout=_REQUEST_SECONDS
        )
    finally:
        consumer.close()
    return {(each.topic, each.partition): each.offset for each in partitions}


def _unavailable(error: KafkaException) -> TransientError:
    return TransientError(f"Kafka does not answer: {error.args[0].name()}")


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that our producers choose for a key: murmur2, as in Kafka's own clients (DefaultPartitioner)."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    value = (0x9747B28C ^ len(key)) & mask
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        part = int.from_bytes(key[start : start + 4], "little") * multiplier & mask
        part = (part ^ part >> 24) * multiplier & mask
        value = (value * multiplier & mask) ^ part
    if rest := key[whole:]:
        value = (value ^ int.from_bytes(rest, "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return ((value ^ value >> 15) & 0x7FFFFFFF) % partitions
