"""Waiting until a stage has taken all that its topic held a moment ago: what is then missing is missing for good."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from orderflow.messaging.topics import consumer_group

if TYPE_CHECKING:
    from orderflow.adapters.kafka.log import Log

_PAUSE_SECONDS: Final = 0.5


class Settling:
    """Asks Kafka how far the stages' consumer groups have come. KafkaSource commits every five seconds."""

    def __init__(self, log: Log, wait_seconds: float) -> None:
        self._log = log
        self._wait_seconds = wait_seconds

    async def behind(self, stage: str, topic: str) -> set[int]:
        """The partitions of which the stage has not, within the time, taken all that was there at the call."""
        extents = await asyncio.to_thread(self._log.extents, topic)
        ends = {partition: extent.end for partition, extent in extents.items() if extent.end > extent.start}
        deadline = time.monotonic() + self._wait_seconds
        while True:
            committed = await asyncio.to_thread(
                self._log.committed, consumer_group(stage), topic, list(extents)
            )
            left = {partition for partition, end in ends.items() if committed.get(partition, 0) < end}
            if not left or time.monotonic() > deadline:
                return left
            await asyncio.sleep(_PAUSE_SECONDS)
