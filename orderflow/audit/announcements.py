"""Announces changes that track committed but never announced.

The history numbers its changes, and track records the numbers (serials) whose status event Kafka has confirmed. A
number that is not recorded is a gap, however clocks behave.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from orderflow.adapters.kafka.gaps import parts, size
from orderflow.adapters.kafka.log import partition_of
from orderflow.audit.log_changes import KnownLog
from orderflow.audit.report import Missing, Remedy
from orderflow.messaging import topics
from orderflow.messaging.handled_places import HISTORY, Log, ranges_of
from orderflow.messaging.status_event import status_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from orderflow.adapters.kafka.gap_process import Gap
    from orderflow.audit.checks import HasDueNotification
    from orderflow.audit.consumer_lag import ConsumerLag
    from orderflow.audit.repairs import RateLimiter
    from orderflow.audit.report import Report
    from orderflow.audit.store import AuditStore, UnannouncedChange
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.handled_places import Store
    from orderflow.messaging.publisher import Publisher

log = logging.getLogger(__name__)

_LOG: Final = Log("track", HISTORY, HISTORY, 0)
_BATCH: Final = 2000
_PAUSE_SECONDS: Final = 0.2


class Announcements:
    def __init__(
        self,
        store: AuditStore,
        places: Store,
        publisher: Publisher,
        limiter: RateLimiter,
        consumer_lag: ConsumerLag,
        has_due_notification: HasDueNotification,
    ) -> None:
        self._store = store
        self._places = places
        self._publisher = publisher
        self._limiter = limiter
        self._consumer_lag = consumer_lag
        self._has_due_notification = has_due_notification

    async def repair(self, report: Report, now: datetime, settle_seconds: float, deadline: float) -> None:
        """Announces the changes that no process will announce any more. deadline is a time of time.monotonic().

        A change of an order whose partition track is behind in may still be announced by track, and is left to the next
        run.
        """
        (known,) = await self._store.known_logs(HISTORY) or [
            KnownLog(HISTORY, 0, judged=1, log_end=1, leader_epoch=None, checkpoints=(), seen_at=now)
        ]
        first, end = known.judged, await self._store.last_serial() + 1
        report.changes = end - first
        if await self._gaps(first, end):
            all_ended = await self._wait_for_transactions(settle_seconds)
            for part in parts(await self._gaps(first, end), _BATCH):
                if time.monotonic() > deadline:
                    report.cut_short = True
                    break
                await self._repair_part(report, part, all_ended=all_ended)
        gaps = await self._gaps(first, end)
        report.changes_unjudged = max(0, size(gaps) - report.changes_postponed)
        judged = gaps[0].first if gaps else end
        await self._store.save_logs(HISTORY, [KnownLog(HISTORY, 0, judged, end, None, (), now)])

    async def _gaps(self, first: int, end: int) -> list[Gap]:
        return await self._store.gaps("track", HISTORY, {0: (first, end)}) if first < end else []

    async def _wait_for_transactions(self, settle_seconds: float) -> bool:
        """Waits until all transactions have ended that run now, and until their serials may be recorded. False where
        one goes on: a serial without a change may still be its."""
        _, next_transaction = await self._store.snapshot()
        deadline = time.monotonic() + settle_seconds
        while True:
            oldest, _ = await self._store.snapshot()
            if oldest >= next_transaction:
                await asyncio.sleep(max(0.0, min(deadline - time.monotonic(), 3.0)))
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _repair_part(self, report: Report, part: Sequence[Gap], *, all_ended: bool) -> None:
        changes = await self._store.changes(part, size(part))
        events = [
            status_event(each.order_id, each.document, each.change, revision=each.revision)
            for each in changes
        ]
        known_to_notify = await self._store.claimed([event.id for event in events])
        lagging: set[int] = set()
        partitions = 1
        if len(known_to_notify) < len(events):
            track = await self._consumer_lag.lagging("track", topics.EVENTS)
            lagging = track | await self._consumer_lag.lagging("notify", topics.STATUS)
            partitions = await self._consumer_lag.partition_count(topics.STATUS)
        serials = {each.serial for each in changes}
        done: list[int] = []
        if all_ended:
            done = [serial for gap in part for serial in range(gap.first, gap.end) if serial not in serials]
        for change, event in zip(changes, events, strict=True):
            if event.id in known_to_notify:
                done.append(change.serial)
            elif partition_of(event.key, partitions) in lagging:
                report.changes_postponed += 1
            else:
                await self._announce(report, change, event)
                done.append(change.serial)
        if done:
            await self._places.add([(_LOG, ranges_of(done))])

    async def _announce(self, report: Report, change: UnannouncedChange, event: CloudEvent) -> None:
        """A status event that nobody is to be sent anything of may have been announced. To announce it again changes
        nothing, so it does not count as missing."""
        await self._limiter.acquire()
        await self._publisher.publish(topics.STATUS, [event])
        if not self._has_due_notification(event, frozenset()):
            return
        extra = {"order_id": change.order_id, "event_id": event.id, "remedy": Remedy.ANNOUNCED.value}
        log.warning("never announced", extra=extra)
        report.add_missing(
            Missing(
                topic=topics.STATUS,
                partition=None,
                offset=None,
                source=change.change.source,
                id=change.change.id,
                order_id=change.order_id,
                reason="not_announced",
                remedy=Remedy.ANNOUNCED,
                lost_at=change.committed_at,
                revision=change.revision,
            )
        )
