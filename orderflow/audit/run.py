"""One run of the audit, from the offsets of the logs to the report."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import uuid4

from orderflow.audit import scan
from orderflow.audit.announcements import OVERLAP, Announcements
from orderflow.audit.checks import EventsCheck, InboxCheck, ParkedCheck, StatusCheck, identity
from orderflow.audit.consumer_lag import ConsumerLag
from orderflow.audit.repairs import RateLimiter, Repairs
from orderflow.audit.report import RecordStatus, Report
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import derived_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from orderflow.adapters.kafka.log import Log, OffsetRange
    from orderflow.audit.checks import Check, HasDueNotification
    from orderflow.audit.kafka_record import KafkaRecord
    from orderflow.audit.repairs import ParkedEvents
    from orderflow.audit.scan import TopicScan
    from orderflow.audit.store import AuditStore
    from orderflow.messaging.publisher import Publisher

log = logging.getLogger(__name__)

AuditRun: TypeAlias = "Callable[[], Awaitable[Report | None]]"
"""One run of the audit; None where another run is under way. Raises TransientError."""

_SAVE_EVERY: Final = 20
"""Batches after which the positions are saved. If the run is killed, the next run does not read them again."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """grace is the age from which a record is judged. max_duration is how long a run may read; the next run continues
    from there."""

    grace: timedelta
    settle_seconds: float
    max_duration: timedelta
    republish_per_second: int
    revision: str


class Audit:
    """An Audit is for one run: its store holds the lock that excludes other runs."""

    def __init__(
        self,
        *,
        log: Log,
        store: AuditStore,
        publisher: Publisher,
        parked_events: ParkedEvents,
        sweep: Callable[[], Awaitable[int]],
        has_due_notification: HasDueNotification,
        options: AuditOptions,
    ) -> None:
        """sweep parks events that have waited too long, and returns how many it parked."""
        self._log = log
        self._store = store
        self._publisher = publisher
        self._sweep = sweep
        self._has_due_notification = has_due_notification
        self._options = options
        self._limiter = RateLimiter(options.republish_per_second)
        self._repairs = Repairs(store, publisher, parked_events, self._limiter, options.revision)
        self._consumer_lag = ConsumerLag(log, options.settle_seconds)
        self._report = Report(str(uuid4()), datetime.now(UTC))
        self._deadline = time.monotonic() + options.max_duration.total_seconds()

    async def run(self) -> Report:
        """Raises TransientError where Kafka or the database is unavailable. The run's row then stays `running`, and
        the next run continues from the saved positions."""
        report = self._report
        if killed := await self._store.begin(report):
            report.notes.append(f"{killed} earlier runs did not come to their end")
        report.waits_expired = await self._expire_waits()
        since = await self._store.announced_until()
        until = await self._store.now() - self._options.grace
        scans = await self._scan_all(since)
        track_lagging = await self._judge_suspects(scans)
        (status_scan,) = (each for each in scans if each.check.topic == topics.STATUS)
        announced_until = await self._announce(status_scan, since, until, track_lagging)
        report.finished_at = datetime.now(UTC)
        await self._store.end(report, min(announced_until, until - OVERLAP))
        return report

    async def _expire_waits(self) -> int:
        expired = 0
        while parked := await self._sweep():
            expired += parked
        return expired

    async def _scan_all(self, since: datetime) -> list[TopicScan]:
        disabled_endpoints = await self._store.disabled_endpoints()
        checks: list[Check] = [
            InboxCheck(self._store),
            EventsCheck(self._store),
            StatusCheck(self._store, self._has_due_notification, disabled_endpoints),
            ParkedCheck(self._store),
        ]
        return [await self._scan(check, since) for check in checks]

    async def _scan(self, check: Check, since: datetime) -> TopicScan:
        ranges = await asyncio.to_thread(self._log.offset_ranges, check.topic)
        group = topics.consumer_group(check.stage)
        committed = await asyncio.to_thread(self._log.committed, group, check.topic, list(ranges))
        saved_positions = await self._store.positions(check.topic)
        topic_scan, notes = scan.begin(check, ranges, committed, saved_positions)
        self._report.topics[check.topic] = topic_scan.report
        self._report.notes += notes
        to_read = {p: (topic_scan.start_offsets[p], topic_scan.end_offsets[p]) for p in ranges}
        if check.topic == topics.STATUS:
            to_read = await self._widen(ranges, to_read, since)
        await self._read(topic_scan, to_read)
        topic_scan.report.in_flight = sum(
            offsets.end - topic_scan.positions.get(p, topic_scan.start_offsets[p])
            for p, offsets in ranges.items()
        )
        return topic_scan

    async def _widen(
        self, ranges: dict[int, OffsetRange], to_read: dict[int, tuple[int, int]], since: datetime
    ) -> dict[int, tuple[int, int]]:
        """The offsets to read of the status topic. Its records also say which changes were announced, so every record
        since `since` is read, up to the end of the log."""
        first = await asyncio.to_thread(self._log.since, topics.STATUS, list(ranges), since - OVERLAP)
        wider = {p: (min(first[p], to_read[p][0]), ranges[p].end) for p in ranges}
        first_offsets = {p: start for p, (start, _) in wider.items() if start == ranges[p].start > 0}
        self._announcements = Announcements(
            self._store, self._publisher, self._limiter, len(ranges), first_offsets
        )
        self._status_read = {p: offsets.end for p, offsets in ranges.items()}
        await self._store.begin_announced()
        return wider

    async def _read(self, topic_scan: TopicScan, ranges: dict[int, tuple[int, int]]) -> None:
        topic = topic_scan.check.topic
        youngest = datetime.now(UTC) - self._options.grace
        number = 0
        async with aclosing(scan.batches(self._log, topic, ranges)) as batches:
            async for messages in batches:
                records = await topic_scan.judge(messages, youngest)
                if topic == topics.STATUS:
                    await self._announcements.add(records)
                number += 1
                if number % _SAVE_EVERY == 0:
                    await self._store.save_positions(topic, topic_scan.next_positions())
                if topic_scan.full or time.monotonic() > self._deadline:
                    self._cut_short(topic)
                    topic_scan.full = True
                    break
        topic_scan.finish()

    def _cut_short(self, topic: str) -> None:
        if not self._report.cut_short:
            self._report.notes.append(f"{topic}: not read to its end; the next run continues from there")
        self._report.cut_short = True

    async def _judge_suspects(self, scans: Sequence[TopicScan]) -> set[int]:
        """Checks suspects again, once the stages have handled what was in their topics, and repairs those that are
        missing. Returns the partitions in which track lags."""
        track_lagging: set[int] = set()
        shelve_lagging: set[int] = set()
        if any(each.suspects for each in scans):
            track_lagging = await self._consumer_lag.lagging("track", topics.EVENTS)
            shelve_lagging = await self._consumer_lag.lagging("shelve", topics.PARKED)
        lost_outputs: set[str] = set()
        # Judge topics downstream first: if track lost a validated event, its inbox event is not missing too.
        for each in reversed(scans):
            await self._judge_topic(each, track_lagging, lost_outputs, postpone=bool(shelve_lagging))
        return track_lagging

    async def _judge_topic(
        self, topic_scan: TopicScan, track_lagging: set[int], lost_outputs: set[str], *, postpone: bool
    ) -> None:
        """lost_outputs holds the ids of the validated events that track lost; judging the events topic adds to it.
        postpone: shelve lags, so that a record of another topic may be parked and not stored yet."""
        topic, suspects = topic_scan.check.topic, topic_scan.suspects
        lost: list[KafkaRecord] = []
        postponed: list[KafkaRecord] = []
        statuses = await topic_scan.check.statuses(suspects) if suspects else []
        for record, status in zip(suspects, statuses, strict=True):
            if status is not RecordStatus.MISSING:
                topic_scan.report.statuses[status] += 1
            elif (postpone and topic != topics.PARKED) or self._may_be_in_track(
                record, track_lagging, lost_outputs
            ):
                topic_scan.report.statuses[RecordStatus.POSTPONED] += 1
                postponed.append(record)
            else:
                topic_scan.report.statuses[RecordStatus.MISSING] += 1
                lost.append(record)
        if topic == topics.EVENTS:
            lost_outputs |= {each[1] for record in lost if (each := identity(record))}
        for missing in await self._repairs.repair(lost):
            self._report.add_missing(missing)
        topic_scan.suspects = postponed
        await self._store.save_positions(topic, topic_scan.next_positions())

    def _may_be_in_track(self, record: KafkaRecord, track_lagging: set[int], lost_outputs: set[str]) -> bool:
        """Whether the event that validate made of an inbox event may still reach track, or was lost by track."""
        if record.topic != topics.INBOX or not (each := identity(record)):
            return False
        partition = self._announcements.partition_of(record.attribute("subject"))
        return partition in track_lagging or derived_id("validate", *each) in lost_outputs

    async def _announce(
        self, status_scan: TopicScan, since: datetime, until: datetime, lagging: set[int]
    ) -> datetime:
        """Announces changes that were never announced. Returns the time up to which every change is announced.

        Before a change counts as not announced, track has to handle what was in its topic, and what was written to the
        status topic in the meantime is read too.
        """
        if status_scan.full:
            return since
        self._report.changes = await self._store.count_changes(since, until)
        if await self._store.unannounced(since, until, 1):
            lagging = lagging | await self._consumer_lag.lagging("track", topics.EVENTS)
            ranges = await asyncio.to_thread(self._log.offset_ranges, topics.STATUS)
            unread = {
                p: (self._status_read.get(p, offsets.start), offsets.end) for p, offsets in ranges.items()
            }
            async with aclosing(scan.batches(self._log, topics.STATUS, unread)) as batches:
                async for messages in batches:
                    await self._announcements.add(scan.records(messages))
        return await self._announcements.repair(self._report, since, until, lagging)
