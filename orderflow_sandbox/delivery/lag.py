"""The lag of each partition, from the broker over connections of its own.

The consumer that delivers cannot be used for it: its requests wait behind its long polls, half a second per partition,
and a second thread that uses it waits for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # it is public

from orderflow.adapters.kafka.log import committed_offsets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow_sandbox.delivery.partition_queue import PartitionQueue
    from orderflow_sandbox.delivery.subscription import Subscription

_SECONDS: Final = 5.0
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]


class Lag:
    """The lag of one consumer group."""

    def __init__(self, subscription: Subscription) -> None:
        self._group = subscription.group
        self._earliest = subscription.initial_offset == "earliest"
        self._settings = dict(subscription.settings)
        self._admin = AdminClient(self._settings)

    def of(self, queues: Sequence[PartitionQueue]) -> list[dict[str, object]]:
        """Per partition the high watermark, the committed offset, and the records between.

        Blocks for two or three requests, whatever the number of partitions. Raises KafkaException.
        """
        if not queues:
            return []
        high = self._ends([(queue.topic, queue.partition) for queue in queues], _LATEST)
        committed = self._committed(queues, high)
        partitions: list[dict[str, object]] = []
        for queue in queues:
            place = (queue.topic, queue.partition)
            delivered = queue.offsets.next
            if delivered is None:
                delivered = committed[place]
            partitions.append(
                {
                    "topic": queue.topic,
                    "partition": queue.partition,
                    "high": high[place],
                    "committed": committed[place],
                    "lag": high[place] - committed[place],
                    "undelivered": max(high[place] - delivered, 0),
                    "buffered": len(queue.events),
                    "stopped": queue.stopped,
                }
            )
        return partitions

    def _committed(
        self, queues: Sequence[PartitionQueue], high: Mapping[tuple[str, int], int]
    ) -> dict[tuple[str, int], int]:
        """Where a restart would begin: at the committed offset, or else at initialOffset."""
        places = [(queue.topic, queue.partition) for queue in queues]
        offsets = committed_offsets(self._settings, self._group, places)
        uncommitted = [place for place, offset in offsets.items() if offset < 0]
        if uncommitted:
            starts = self._ends(uncommitted, _EARLIEST) if self._earliest else high
            offsets.update({place: starts[place] for place in uncommitted})
        return offsets

    def _ends(self, places: Sequence[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        answers = self._admin.list_offsets(
            {TopicPartition(*place): spec for place in places}, request_timeout=_SECONDS
        )
        return {
            (place.topic, place.partition): answer.result(_SECONDS).offset
            for place, answer in answers.items()
        }
