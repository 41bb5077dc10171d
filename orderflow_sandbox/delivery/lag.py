"""How far behind each partition is, asked of the broker on connections of their own.

Never asked of the consumer that delivers: its questions wait behind its long polls, half a second
a partition, and a second thread on it waits for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # it is public

from orderflow.adapters.kafka.log import committed_offsets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow_sandbox.delivery.member import Lane, Subscription

_SECONDS: Final = 5.0
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]


class Lag:
    """Of one consumer group."""

    def __init__(self, subscription: Subscription) -> None:
        self._group = subscription.group
        self._earliest = subscription.initial_offset == "earliest"
        self._settings = dict(subscription.settings)
        self._admin = AdminClient(self._settings)

    def of(self, lanes: Sequence[Lane]) -> list[dict[str, object]]:
        """Per partition its high watermark, the committed offset, and how much is behind either.

        Blocks for two or three requests, however many partitions. Raises KafkaException.
        """
        if not lanes:
            return []
        high = self._ends([(lane.topic, lane.partition) for lane in lanes], _LATEST)
        committed = self._committed(lanes, high)
        found: list[dict[str, object]] = []
        for lane in lanes:
            place = (lane.topic, lane.partition)
            delivered = lane.offsets.next
            if delivered is None:
                delivered = committed[place]
            found.append(
                {
                    "topic": lane.topic,
                    "partition": lane.partition,
                    "high": high[place],
                    "committed": committed[place],
                    "lag": high[place] - committed[place],
                    "undelivered": max(high[place] - delivered, 0),
                    "buffered": len(lane.queue),
                    "stopped": lane.stopped,
                }
            )
        return found

    def _committed(
        self, lanes: Sequence[Lane], high: Mapping[tuple[str, int], int]
    ) -> dict[tuple[str, int], int]:
        """Where a restart would go on: at the committed offset, or at initialOffset without one."""
        places = [(lane.topic, lane.partition) for lane in lanes]
        found = committed_offsets(self._settings, self._group, places)
        fresh = [place for place, offset in found.items() if offset < 0]
        if fresh:
            starts = self._ends(fresh, _EARLIEST) if self._earliest else high
            found.update({place: starts[place] for place in fresh})
        return found

    def _ends(self, places: Sequence[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        asked = self._admin.list_offsets(
            {TopicPartition(*place): spec for place in places}, request_timeout=_SECONDS
        )
        return {
            (place.topic, place.partition): answer.result(_SECONDS).offset for place, answer in asked.items()
        }
