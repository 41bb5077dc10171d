"""Announces changes that track committed but never announced: the history has them, the status topic's log does not."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from orderflow.adapters.kafka.log import partition_of
from orderflow.audit.report import Missing, Remedy
from orderflow.messaging import topics
from orderflow.messaging.status_event import status_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow.audit.kafka_record import KafkaRecord
    from orderflow.audit.repairs import RateLimiter
    from orderflow.audit.report import Report
    from orderflow.audit.store import AuditStore, UnannouncedChange
    from orderflow.messaging.publisher import Publisher

log = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 5000
OVERLAP: Final = timedelta(minutes=2)
"""By how much two runs overlap: clocks differ, and a transaction becomes visible later than its timestamp."""


@dataclass(slots=True)
class Announcements:
    """Compares the log of the status topic with the history.

    first_offsets holds, by partition, the first offset that retention has left, where retention has removed records
    that may be newer than `since`. A change older than the record at that offset cannot be judged, and is not
    announced again.
    """

    store: AuditStore
    publisher: Publisher
    limiter: RateLimiter
    partitions: int
    first_offsets: Mapping[int, int]
    _oldest_record: dict[int, datetime] = field(default_factory=dict)

    async def add(self, records: Sequence[KafkaRecord]) -> None:
        """Adds records of the status topic."""
        for record in records:
            if record.offset == self.first_offsets.get(record.partition):
                self._oldest_record[record.partition] = record.written_at
        await self.store.add_announced(
            (each.attribute("originsource"), each.attribute("originid")) for each in records
        )

    def partition_of(self, order_id: str) -> int:
        """The partition from which track reads the order's events."""
        return partition_of(order_id.encode(), self.partitions)

    async def repair(self, report: Report, since: datetime, until: datetime, lagging: set[int]) -> datetime:
        """Announces the changes recorded after since, up to until, that were not announced. Changes of lagging
        partitions, in which track is behind, may still be announced by track and are left to the next run.

        Returns the time up to which every change is announced.
        """
        announced_until = until
        while changes := await self.store.unannounced(since, until, MAX_AT_ONCE):
            for each in changes:
                partition = self.partition_of(each.order_id)
                oldest = self._oldest_record.get(partition)
                if partition in self.first_offsets and (oldest is None or each.recorded_at < oldest):
                    report.changes_unjudged += 1
                elif partition in lagging:
                    report.changes_postponed += 1
                    announced_until = min(announced_until, each.recorded_at - timedelta(microseconds=1))
                else:
                    report.add_missing(await self._announce(each))
            await self.store.add_announced([(each.change.source, each.change.id) for each in changes])
        return announced_until

    async def _announce(self, unannounced: UnannouncedChange) -> Missing:
        await self.limiter.acquire()
        order_id, change = unannounced.order_id, unannounced.change
        event = status_event(order_id, unannounced.document, change)
        await self.publisher.publish(topics.STATUS, [event])
        extra = {"order_id": order_id, "event_id": event.id, "remedy": Remedy.ANNOUNCED.value}
        log.warning("never announced", extra=extra)
        return Missing(
            topic=topics.STATUS,
            partition=None,
            offset=None,
            source=change.source,
            id=change.id,
            order_id=order_id,
            reason="not_announced",
            remedy=Remedy.ANNOUNCED,
        )
