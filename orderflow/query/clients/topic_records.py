"""Records of the topics, for comparisons of what stages made of them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from orderflow.adapters.kafka.gap_process import Gap
from orderflow.adapters.kafka.gap_reader import GapReader
from orderflow.adapters.kafka.gaps import parts
from orderflow.adapters.kafka.log import Log
from orderflow.messaging.places import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime

    from orderflow.adapters.kafka.kafka_record import KafkaRecord

T = TypeVar("T")
Ranges = dict[int, tuple[int, int]]
"""By partition, the first offset and the offset after the last one."""

_MOST_AT_ONCE: Final = 200
_ASKING: Final = ThreadPoolExecutor(2, "kafka-offsets")
"""Threads for questions about offsets. librdkafka waits up to 30 s for an answer; whoever asks may give up before."""


class TopicRecords:
    """Reads in a process of its own, which a record that the client library cannot bear may end. Every method raises
    TransientError where Kafka does not answer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """config has librdkafka's properties."""
        self._config = dict(config)

    def reader(self) -> GapReader:
        return GapReader(self._config)

    async def ranges_since(self, topic: str, since: datetime) -> Ranges:
        def ask() -> Ranges:
            log = Log(self._config)
            offsets = log.offset_ranges(topic)
            first = log.since(topic, list(offsets), since)
            return {
                partition: (max(each.start, first[partition]), each.end)
                for partition, each in offsets.items()
                if max(each.start, first[partition]) < each.end
            }

        return await _in_thread(ask)

    async def at(self, reader: GapReader, topic: str, places: Sequence[Place]) -> dict[Place, KafkaRecord]:
        """The records at the places. A place is left out whose record is gone, or whose topic was deleted and made
        anew."""
        log = await _in_thread(lambda: Log(self._config).describe(topic))
        wanted = sorted(
            {(place.partition, place.offset) for place in places if _has(log.partitions, log.topic_id, place)}
        )
        gaps = [Gap(partition=partition, first=offset, end=offset + 1) for partition, offset in wanted]
        return {
            Place(log.topic_id, record.partition, record.offset): record
            for part in parts(gaps, _MOST_AT_ONCE)
            for record in await reader.read(topic, part)
        }


def _has(partitions: Mapping[int, Any], topic_id: str, place: Place) -> bool:
    log = partitions.get(place.partition)
    return log is not None and place.topic_id == topic_id and log.start <= place.offset < log.end


async def newest_first(
    reader: GapReader, topic: str, ranges: Ranges, size: int
) -> AsyncIterator[list[KafkaRecord]]:
    """The records of the ranges from their ends on, about `size` at a time; at each time those of all partitions, the
    newest first."""
    left = dict(ranges)
    while left:
        each = max(1, size // len(left))
        gaps = [
            Gap(partition=partition, first=max(first, end - each), end=end)
            for partition, (first, end) in left.items()
        ]
        left = {gap.partition: (left[gap.partition][0], gap.first) for gap in gaps}
        left = {partition: (first, end) for partition, (first, end) in left.items() if first < end}
        records = await reader.read(topic, gaps)
        yield sorted(records, key=lambda record: record.written_at, reverse=True)


async def oldest(
    reader: GapReader, topic: str, ranges: Ranges, size: int
) -> tuple[list[KafkaRecord], Ranges]:
    """About `size` records from the beginnings of the ranges, and what is left of the ranges."""
    each = max(1, size // max(1, len(ranges)))
    gaps = [
        Gap(partition=partition, first=first, end=min(end, first + each))
        for partition, (first, end) in ranges.items()
    ]
    left = {gap.partition: (gap.end, ranges[gap.partition][1]) for gap in gaps}
    records = await reader.read(topic, gaps) if gaps else []
    return records, {partition: (first, end) for partition, (first, end) in left.items() if first < end}


async def _in_thread(ask: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_ASKING, ask)
