"""Waits until a stage's consumer group has passed the records that were in its topic a moment ago. A record that is
missing after that does not merely wait for its stage."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from orderflow.messaging.topics import consumer_group

if TYPE_CHECKING:
    from orderflow.adapters.kafka.log import Log

_PAUSE_SECONDS: Final = 0.5
_FLUSH_SECONDS: Final = 1.5
"""A stage records its places once a second, and a little later than it confirms its records."""


class ConsumerLag:
    """Asks once a run for each topic. wait_seconds should exceed 5: KafkaSource commits offsets every five seconds."""

    def __init__(self, log: Log, wait_seconds: float) -> None:
        self._log = log
        self._wait_seconds = wait_seconds
        self._lagging: dict[str, set[int]] = {}
        self._partition_counts: dict[str, int] = {}

    async def lagging(self, stage: str, topic: str) -> set[int]:
        """The partitions whose end, at the time of the first call, the stage's group has not passed within
        wait_seconds."""
        if topic not in self._lagging:
            self._lagging[topic] = await self._wait(stage, topic)
            await asyncio.sleep(min(self._wait_seconds, _FLUSH_SECONDS))
        return self._lagging[topic]

    async def partition_count(self, topic: str) -> int:
        if topic not in self._partition_counts:
            self._partition_counts[topic] = len(await asyncio.to_thread(self._log.offset_ranges, topic))
        return self._partition_counts[topic]

    async def _wait(self, stage: str, topic: str) -> set[int]:
        ranges = await asyncio.to_thread(self._log.offset_ranges, topic)
        ends = {
            partition: offsets.end for partition, offsets in ranges.items() if offsets.end > offsets.start
        }
        deadline = time.monotonic() + self._wait_seconds
        while True:
            committed = await asyncio.to_thread(
                self._log.committed, consumer_group(stage), topic, list(ranges)
            )
            behind = {partition for partition, end in ends.items() if committed.get(partition, 0) < end}
            if not behind or time.monotonic() > deadline:
                return behind
            await asyncio.sleep(_PAUSE_SECONDS)
