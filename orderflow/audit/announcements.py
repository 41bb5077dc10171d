"""Changes that were committed but never announced: those of the history whose status event no log has."""

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

    from orderflow.audit.kafka_record import Record
    from orderflow.audit.repairs import Pace
    from orderflow.audit.report import Report
    from orderflow.audit.store import AuditStore, Unannounced
    from orderflow.messaging.publisher import Publisher

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 5000
OVERLAP: Final = timedelta(minutes=2)
"""By how much two runs overlap: clocks differ, and a transaction is seen later than the moment it is dated."""


@dataclass(slots=True)
class Announcements:
    """The status topic's log on one side, the history on the other.

    firsts is by partition the first offset that retention has left, where it has removed anything that a change
    may be in. A change older than the record there is nobody's to judge, and is not announced again.
    """

    store: AuditStore
    publisher: Publisher
    pace: Pace
    partitions: int
    firsts: Mapping[int, int]
    _horizon: dict[int, datetime] = field(default_factory=dict)

    async def seen(self, records: Sequence[Record]) -> None:
        """Notes what the log announces."""
        for record in records:
            if record.offset == self.firsts.get(record.partition):
                self._horizon[record.partition] = record.written_at
        await self.store.add_announced(
            (each.attribute("originsource"), each.attribute("originid")) for each in records
        )

    def partition_of(self, order_id: str) -> int:
        """Where track takes the order's events from."""
        return partition_of(order_id.encode(), self.partitions)

    async def mend(self, report: Report, since: datetime, until: datetime, behind: set[int]) -> datetime:
        """Announces what is not; behind are partitions of track's whose changes may still be on their way.

        Returns up to when all is announced now.
        """
        reached = until
        while found := await self.store.unannounced(since, until, MOST_AT_ONCE):
            for each in found:
                partition = self.partition_of(each.order_id)
                horizon = self._horizon.get(partition)
                if partition in self.firsts and (horizon is None or each.recorded_at < horizon):
                    report.changes_unjudged += 1
                elif partition in behind:
                    report.changes_postponed += 1
                    reached = min(reached, each.recorded_at - timedelta(microseconds=1))
                else:
                    report.found(await self._announce(each))
            await self.store.add_announced([(each.change.source, each.change.id) for each in found])
        return reached

    async def _announce(self, each: Unannounced) -> Missing:
        await self.pace.step()
        event = status_event(each.order_id, each.document, each.change)
        await self.publisher.publish(topics.STATUS, [event])
        extra = {"order_id": each.order_id, "event_id": event.id, "remedy": Remedy.ANNOUNCED.value}
        log.warning("never announced", extra=extra)
        return Missing(
            topic=topics.STATUS,
            partition=None,
            offset=None,
            source=each.change.source,
            id=each.change.id,
            order_id=each.order_id,
            reason="not_announced",
            remedy=Remedy.ANNOUNCED,
        )
