"""One run of the audit, from the logs' extents to the report."""

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
from orderflow.audit.consumer_lag import Settling
from orderflow.audit.repairs import Pace, Remedies
from orderflow.audit.report import Fate, Report
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import derived_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from orderflow.adapters.kafka.log import Extent, Log
    from orderflow.audit.checks import Check
    from orderflow.audit.kafka_record import Record
    from orderflow.audit.scan import Reading
    from orderflow.audit.store import AuditStore
    from orderflow.messaging.publisher import Publisher
    from orderflow.notify.settings import NotificationSettings
    from orderflow.shelve.parked_store import ParkedEventStore

log = logging.getLogger(__name__)

AuditRun: TypeAlias = "Callable[[], Awaitable[Report | None]]"
"""One run of the audit; None where another run is under way. Raises UnavailableError."""

_SAVE_EVERY: Final = 20
"""Batches between two savings of the positions: what a killed run has read is not read again."""


@dataclass(frozen=True, slots=True)
class Terms:
    """grace is how old a record must be to be judged, most how long a run may read; what is left is the next's."""

    grace: timedelta
    settle_seconds: float
    most: timedelta
    republish_per_second: int
    revision: str


class Audit:
    """Collaborators are of one run: the store holds the lock that keeps other runs out."""

    def __init__(
        self,
        *,
        log: Log,
        store: AuditStore,
        publisher: Publisher,
        shelf: ParkedEventStore,
        sweep: Callable[[], Awaitable[int]],
        told: NotificationSettings,
        terms: Terms,
    ) -> None:
        """sweep parks events that have waited too long and returns how many."""
        self._log = log
        self._store = store
        self._publisher = publisher
        self._sweep = sweep
        self._told = told
        self._terms = terms
        self._pace = Pace(terms.republish_per_second)
        self._remedies = Remedies(store, publisher, shelf, self._pace, terms.revision)
        self._settling = Settling(log, terms.settle_seconds)
        self._report = Report(str(uuid4()), datetime.now(UTC))
        self._deadline = time.monotonic() + terms.most.total_seconds()

    async def run(self) -> Report:
        """Raises UnavailableError where Kafka or the database is away: then the run's row stays `running`, and
        the next run takes up from the positions that were saved."""
        report = self._report
        if killed := await self._store.begin(report):
            report.notes.append(f"{killed} earlier runs did not come to their end")
        report.waits_expired = await self._expire()
        since = await self._store.announced_until()
        until = await self._store.clock() - self._terms.grace
        readings = await self._read_all(since)
        track_behind = await self._judge(readings)
        (status,) = (found for found in readings if found.check.topic == topics.STATUS)
        announced = await self._announce(status, since, until, track_behind)
        report.finished_at = datetime.now(UTC)
        await self._store.end(report, min(announced, until - OVERLAP))
        return report

    async def _expire(self) -> int:
        expired = 0
        while found := await self._sweep():
            expired += found
        return expired

    async def _read_all(self, since: datetime) -> list[Reading]:
        gone = await self._store.endpoints_gone()
        checks: list[Check] = [
            InboxCheck(self._store),
            EventsCheck(self._store),
            StatusCheck(self._store, self._told, gone),
            ParkedCheck(self._store),
        ]
        readings = []
        for check in checks:
            extents = await asyncio.to_thread(self._log.extents, check.topic)
            group = topics.consumer_group(check.stage)
            committed = await asyncio.to_thread(self._log.committed, group, check.topic, list(extents))
            known = await self._store.positions(check.topic)
            found, notes = scan.begin(check, extents, committed, known)
            self._report.topics[check.topic] = found.report
            self._report.notes += notes
            ranges = {p: (found.begins[p], found.untils[p]) for p in extents}
            if check.topic == topics.STATUS:
                ranges = await self._widen(extents, ranges, since)
            await self._read(found, ranges)
            reached = {p: found.reached.get(p, found.begins[p]) for p in extents}
            found.report.in_flight = sum(extent.end - reached[p] for p, extent in extents.items())
            readings.append(found)
        return readings

    async def _widen(
        self, extents: dict[int, Extent], ranges: dict[int, tuple[int, int]], since: datetime
    ) -> dict[int, tuple[int, int]]:
        """Status events also tell what was announced: of every change since then, up to the log's end."""
        first = await asyncio.to_thread(self._log.since, topics.STATUS, list(extents), since - OVERLAP)
        wider = {p: (min(first[p], ranges[p][0]), extents[p].end) for p in extents}
        firsts = {p: begin for p, (begin, _) in wider.items() if begin == extents[p].start > 0}
        self._announcements = Announcements(self._store, self._publisher, self._pace, len(extents), firsts)
        self._status_read = {p: extent.end for p, extent in extents.items()}
        await self._store.begin_announced()
        return wider

    async def _read(self, found: Reading, ranges: dict[int, tuple[int, int]]) -> None:
        youngest = datetime.now(UTC) - self._terms.grace
        number = 0
        async with aclosing(scan.batches(self._log, found.check.topic, ranges)) as batches:
            async for messages in batches:
                records = await found.take(messages, youngest)
                if found.check.topic == topics.STATUS:
                    await self._announcements.seen(records)
                number += 1
                if number % _SAVE_EVERY == 0:
                    await self._store.save_positions(found.check.topic, found.positions())
                if found.full or time.monotonic() > self._deadline:
                    self._cut_short(found.check.topic)
                    found.full = True
                    break
        found.finish()

    def _cut_short(self, topic: str) -> None:
        if not self._report.cut_short:
            self._report.notes.append(f"{topic}: not read to its end; the next run goes on from there")
        self._report.cut_short = True

    async def _judge(self, readings: Sequence[Reading]) -> set[int]:
        """Looks again at what was missing, once the stages have taken all that was there; returns the partitions
        in which track is behind."""
        track_behind: set[int] = set()
        shelve_behind: set[int] = set()
        if any(found.suspects for found in readings):
            track_behind = await self._settling.behind("track", topics.EVENTS)
            shelve_behind = await self._settling.behind("shelve", topics.PARKED)
        lost_outputs: set[str] = set()
        for found in reversed(readings):
            await self._judge_topic(found, track_behind, lost_outputs, postpone=bool(shelve_behind))
        return track_behind

    async def _judge_topic(
        self, found: Reading, track_behind: set[int], lost_outputs: set[str], *, postpone: bool
    ) -> None:
        """lost_outputs are ids of validated events that track lost: the inbox events that they came from are not
        missing too. Topics are judged in the reverse order of the way, so that they are known."""
        topic, suspects = found.check.topic, found.suspects
        lost: list[Record] = []
        held: list[Record] = []
        fates = await found.check.fates(suspects) if suspects else []
        for record, fate in zip(suspects, fates, strict=True):
            if fate is not Fate.MISSING:
                found.report.fates[fate] += 1
            elif (postpone and topic != topics.PARKED) or self._may_be_under_way(
                record, track_behind, lost_outputs
            ):
                found.report.fates[Fate.POSTPONED] += 1
                held.append(record)
            else:
                found.report.fates[Fate.MISSING] += 1
                lost.append(record)
        if topic == topics.EVENTS:
            lost_outputs |= {each[1] for record in lost if (each := identity(record))}
        for missing in await self._remedies.apply(lost):
            self._report.found(missing)
        found.suspects = held
        await self._store.save_positions(topic, found.positions())

    def _may_be_under_way(self, record: Record, track_behind: set[int], lost_outputs: set[str]) -> bool:
        """An inbox event goes on as another event, which track may not have had yet, or has lost itself."""
        if record.topic != topics.INBOX or not (each := identity(record)):
            return False
        partition = self._announcements.partition_of(record.attribute("subject"))
        return partition in track_behind or derived_id("validate", *each) in lost_outputs

    async def _announce(self, found: Reading, since: datetime, until: datetime, behind: set[int]) -> datetime:
        """found is of the status topic. Before a change counts as not announced, track has taken what it had, and
        what was written meanwhile is read too."""
        if found.full:
            return since
        self._report.changes = await self._store.changes(since, until)
        if await self._store.unannounced(since, until, 1):
            behind = behind | await self._settling.behind("track", topics.EVENTS)
            extents = await asyncio.to_thread(self._log.extents, topics.STATUS)
            tail = {p: (self._status_read.get(p, extent.start), extent.end) for p, extent in extents.items()}
            async with aclosing(scan.batches(self._log, topics.STATUS, tail)) as batches:
                async for messages in batches:
                    await self._announcements.seen(scan.records(messages))
        return await self._announcements.mend(self._report, since, until, behind)
