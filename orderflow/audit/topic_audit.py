"""The audit of one topic: the offsets that its stage has confirmed, without those that are recorded as handled. Only
these gaps are read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from orderflow.adapters.kafka.gaps import parts, size
from orderflow.adapters.kafka.log import partition_of
from orderflow.audit import log_changes
from orderflow.audit.log_changes import KnownLog
from orderflow.audit.report import RecordStatus, TopicReport
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.handled_places import Log as PlaceLog
from orderflow.messaging.handled_places import ranges_of
from orderflow.messaging.places import INBOX_PLACE, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from orderflow.adapters.kafka.gap_process import Gap
    from orderflow.adapters.kafka.gap_reader import GapReader
    from orderflow.adapters.kafka.kafka_record import KafkaRecord
    from orderflow.adapters.kafka.log import Log, TopicLog
    from orderflow.audit.checks import Check
    from orderflow.audit.consumer_lag import ConsumerLag
    from orderflow.audit.log_changes import Start
    from orderflow.audit.repairs import Repairs
    from orderflow.audit.report import Report
    from orderflow.audit.store import AuditStore
    from orderflow.messaging.handled_places import Store

_PART: Final = 5000
"""Offsets that are read, judged and repaired at once."""
_CHECKPOINT_REACH: Final = 20
"""How far below the end of a partition a record is looked for that becomes a checkpoint."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the audits of all topics share."""

    log: Log
    store: AuditStore
    places: Store
    reader: GapReader
    repairs: Repairs
    consumer_lag: ConsumerLag
    grace: timedelta
    settle_seconds: float
    deadline: float
    """A time of time.monotonic()."""


@dataclass(slots=True)
class TopicAudit:
    check: Check
    tools: Tools
    report: Report
    counts: TopicReport = field(default_factory=TopicReport)

    async def run(self) -> None:
        """Judges what the stage has confirmed, and repairs what is missing. Raises TransientError."""
        tools, topic = self.tools, self.check.topic
        self.report.topics[topic] = self.counts
        topic_log = await asyncio.to_thread(tools.log.describe, topic)
        group = topics.consumer_group(self.check.stage)
        committed = await asyncio.to_thread(tools.log.committed, group, topic, list(topic_log.partitions))
        known = await self._known(topic_log)
        starts = await self._starts(topic_log, known)
        ends = await self._ends(topic_log, committed, known)
        ranges = {p: (start.first, max(start.first, ends[p])) for p, start in starts.items()}
        await self._note_what_is_stuck(topic_log, committed)
        self.counts.judged = sum(end - first for first, end in ranges.values())
        gaps = await self._gaps(topic_log.topic_id, ranges)
        if gaps:
            # What is on its way through the stages behind is recorded a moment later.
            track, shelve = await self._lagging()
            gaps = await self._gaps(topic_log.topic_id, ranges)
        self.counts.handled = self.counts.judged - size(gaps)
        if gaps:
            await self._judge(gaps, topic_log.topic_id, track, shelve)
            gaps = await self._gaps(topic_log.topic_id, ranges)
        await self._save(topic_log, known, starts, ranges, gaps)

    async def _gaps(self, topic_id: str, ranges: Mapping[int, tuple[int, int]]) -> list[Gap]:
        return await self.tools.store.gaps(self.check.stage, topic_id, ranges)

    async def _known(self, topic_log: TopicLog) -> dict[int, KnownLog]:
        """By partition. What is known of an earlier topic of this name is put into the report and removed."""
        store, topic = self.tools.store, self.check.topic
        all_known = await store.known_logs(topic)
        earlier = [each for each in all_known if each.topic_id != topic_log.topic_id]
        for topic_id in sorted({each.topic_id for each in earlier}):
            logs = [each for each in earlier if each.topic_id == topic_id]
            ranges = {each.partition: (each.judged, each.log_end) for each in logs}
            lost = size(await self._gaps(topic_id, ranges))
            self.counts.removed += lost
            self.report.unknown = True
            self.report.notes.append(
                f"{topic}: the topic was made anew; of the earlier one {lost} records were not accounted for at its "
                "last audit, and what it was given later cannot be judged"
            )
            await store.remove_logs(topic, topic_id)
        if not all_known:
            return await self._known_before_places(topic_log)
        return {each.partition: each for each in all_known if each.topic_id == topic_log.topic_id}

    async def _known_before_places(self, topic_log: TopicLog) -> dict[int, KnownLog]:
        """What releases before 0.9 had audited."""
        now = datetime.now(UTC)
        return {
            partition: KnownLog(topic_log.topic_id, partition, offset, offset, seen.leader_epoch, (), now)
            for partition, offset in (await self.tools.store.positions(self.check.topic)).items()
            if (seen := topic_log.partitions.get(partition)) and offset <= seen.end
        }

    async def _starts(self, topic_log: TopicLog, known: Mapping[int, KnownLog]) -> dict[int, Start]:
        """Where the run begins in each partition. Places that are not those of this log are forgotten."""
        same_until = await self._same_until(topic_log, known)
        starts: dict[int, Start] = {}
        for partition, seen in topic_log.partitions.items():
            where = f"{self.check.topic} partition {partition}"
            start = log_changes.start_of(where, known.get(partition), seen, same_until.get(partition))
            before = {partition: (0, seen.start)}
            if partition not in known and not await self._gaps(topic_log.topic_id, before):
                start.notes.clear()
            starts[partition] = start
            self.report.notes += start.notes
            self.report.unknown |= start.unknown
            await self._count_lost(topic_log, partition, start)
            if start.forget is not None:
                await self.tools.store.forget(self.check.stage, topic_log.topic_id, partition, start.forget)
        return starts

    async def _count_lost(self, topic_log: TopicLog, partition: int, start: Start) -> None:
        if start.lost is None:
            return
        if lost := size(await self._gaps(topic_log.topic_id, {partition: start.lost})):
            self.counts.removed += lost
            self.report.notes.append(
                f"{self.check.topic} partition {partition}: {lost} records that were never accounted for are gone"
            )

    async def _same_until(self, topic_log: TopicLog, known: Mapping[int, KnownLog]) -> dict[int, int]:
        """By partition, the offset after the newest checkpoint whose record is still the same. A partition without
        one is left out."""
        same: dict[int, int] = {}
        unclear = {
            p: [each for each in known[p].checkpoints if seen.start <= each[0] < seen.end][::-1]
            for p, seen in topic_log.partitions.items()
            if p in known
        }
        while unclear := {
            p: checkpoints for p, checkpoints in unclear.items() if checkpoints and p not in same
        }:
            ranges = {p: (checkpoints[0][0], checkpoints[0][0] + 1) for p, checkpoints in unclear.items()}
            digests = await asyncio.to_thread(_digests, self.tools.log, self.check.topic, ranges)
            for partition, checkpoints in unclear.items():
                offset, digest = checkpoints.pop(0)
                if digests.get(partition, {}).get(offset) == digest:
                    same[partition] = offset + 1
        return same

    async def _ends(
        self, topic_log: TopicLog, committed: Mapping[int, int], known: Mapping[int, KnownLog]
    ) -> dict[int, int]:
        """The offset up to which each partition is judged: what the stage has confirmed and what is older than the
        grace period. A record that the last run saw is that old whatever its time says."""
        now = datetime.now(UTC)
        partitions = list(topic_log.partitions)
        aged = await asyncio.to_thread(
            self.tools.log.since, self.check.topic, partitions, now - self.tools.grace
        )
        ends: dict[int, int] = {}
        for partition, seen in topic_log.partitions.items():
            end = aged[partition]
            before = known.get(partition)
            if before is not None and before.seen_at < now - self.tools.grace:
                end = max(end, before.log_end)
            ends[partition] = min(end, committed.get(partition, seen.start), seen.end)
            self.counts.in_flight += seen.end - max(ends[partition], seen.start)
        return ends

    async def _note_what_is_stuck(self, topic_log: TopicLog, committed: Mapping[int, int]) -> None:
        """Notes a record that is neither confirmed nor handled for longer than the grace period and the time to settle,
        and a group that has never confirmed anything."""
        tools, topic, stage = self.tools, self.check.topic, self.check.stage
        patience = tools.grace + timedelta(seconds=tools.settle_seconds)
        now = datetime.now(UTC)
        old = await asyncio.to_thread(tools.log.since, topic, list(topic_log.partitions), now - patience)
        waiting = {
            p: (first, min(old[p], seen.end))
            for p, seen in topic_log.partitions.items()
            if (first := max(committed.get(p, 0), seen.start)) < min(old[p], seen.end)
        }
        gaps = await self._gaps(topic_log.topic_id, waiting) if waiting else []
        first_gaps = {gap.partition: (gap.first, gap.end) for gap in reversed(gaps)}
        oldest = await asyncio.to_thread(_oldest, tools.log, topic, first_gaps) if gaps else None
        if oldest is None:
            return
        self.report.behind = True
        written_at, place = oldest
        seconds = round((now - written_at).total_seconds())
        self.report.notes.append(
            f"{topic}: the oldest record that {stage} has not confirmed is {seconds} s old, at {place}"
            if committed
            else f"{topic}: the group of {stage} has never confirmed a record; the oldest is {seconds} s old"
        )

    async def _lagging(self) -> tuple[set[int], set[int]]:
        """Waits for track and shelve. The partitions in which they still lag, as far as that matters to this topic."""
        lag, topic = self.tools.consumer_lag, self.check.topic
        track = await lag.lagging("track", topics.EVENTS) if topic == topics.INBOX else set()
        shelve = await lag.lagging("shelve", topics.PARKED)
        return track, shelve if topic != topics.PARKED else set()

    async def _judge(self, gaps: Sequence[Gap], topic_id: str, track: set[int], shelve: set[int]) -> None:
        """track and shelve are the partitions in which these stages lag."""
        partitions = await self.tools.consumer_lag.partition_count(topics.EVENTS)
        put_off = [gap for gap in gaps if gap.partition in track]
        self.counts.statuses[RecordStatus.POSTPONED] += size(put_off)
        for part in parts([gap for gap in gaps if gap.partition not in track], _PART):
            if time.monotonic() > self.tools.deadline:
                self.report.cut_short = True
                self.report.notes.append(
                    f"{self.check.topic}: not judged to its end; the next run continues from there"
                )
                return
            records = await self.tools.reader.read(self.check.topic, part)
            statuses = await self.check.statuses(records, topic_id)
            done = _empty(part, records)
            self.counts.statuses[RecordStatus.EMPTY] += len(done)
            for record, found in zip(records, statuses, strict=True):
                status = found
                if status is RecordStatus.MISSING and _may_be_on_its_way(record, track, shelve, partitions):
                    status = RecordStatus.POSTPONED
                if status is RecordStatus.MISSING:
                    missing = await self.tools.repairs.repair(record, topic_id)
                    if missing is None:
                        status = RecordStatus.DUPLICATE
                    else:
                        self.report.add_missing(missing)
                self.counts.statuses[status] += 1
                if status is not RecordStatus.POSTPONED:
                    done.append((record.partition, record.offset))
            await self._add_handled(topic_id, done, records)

    async def _add_handled(
        self, topic_id: str, done: Iterable[tuple[int, int]], records: Sequence[KafkaRecord]
    ) -> None:
        """A record that was published again or parked is accounted for at its new place. The inbox record of a
        validated event is accounted for with it."""
        offsets: dict[PlaceLog, list[int]] = {}
        for partition, offset in done:
            offsets.setdefault(PlaceLog(self.check.stage, self.check.topic, topic_id, partition), []).append(
                offset
            )
        is_done = set(done)
        for record in records:
            place = Place.parse(record.attribute(INBOX_PLACE)) if record.topic == topics.EVENTS else None
            if place is not None and (record.partition, record.offset) in is_done:
                inbox = PlaceLog("validate", topics.INBOX, place.topic_id, place.partition)
                offsets.setdefault(inbox, []).append(place.offset)
        await self.tools.places.add([(each, ranges_of(offsets[each])) for each in sorted(offsets)])

    async def _save(
        self,
        topic_log: TopicLog,
        known: Mapping[int, KnownLog],
        starts: Mapping[int, Start],
        ranges: Mapping[int, tuple[int, int]],
        gaps: Sequence[Gap],
    ) -> None:
        first_gap = {gap.partition: gap.first for gap in reversed(gaps)}
        # At the log's end, not where judging ended: a cut below what this run has seen is then always noticed.
        reach = {
            p: (max(seen.start, seen.end - _CHECKPOINT_REACH), seen.end)
            for p, seen in topic_log.partitions.items()
            if seen.start < seen.end and (p not in known or known[p].log_end != seen.end or starts[p].unknown)
        }
        digests: dict[int, dict[int, str]] = {}
        if reach:
            digests = await asyncio.to_thread(_last_digests, self.tools.log, self.check.topic, reach)
        now = datetime.now(UTC)
        await self.tools.store.save_logs(
            self.check.topic,
            [
                KnownLog(
                    topic_log.topic_id,
                    partition,
                    first_gap.get(partition, end),
                    topic_log.partitions[partition].end,
                    topic_log.partitions[partition].leader_epoch,
                    log_changes.checkpoints_of(
                        known.get(partition), starts[partition], digests.get(partition, {})
                    ),
                    now,
                )
                for partition, (_, end) in ranges.items()
            ],
        )


def _empty(part: Sequence[Gap], records: Sequence[KafkaRecord]) -> list[tuple[int, int]]:
    """The offsets, as (partition, offset), at which no record is."""
    full = {(record.partition, record.offset) for record in records}
    places = ((gap.partition, offset) for gap in part for offset in range(gap.first, gap.end))
    return [place for place in places if place not in full]


def _may_be_on_its_way(record: KafkaRecord, track: set[int], shelve: set[int], partitions: int) -> bool:
    """Whether what a stage made of the record may still wait for track or for shelve.

    All topics have the same partitions. A record without an order id may have been parked in any partition.
    """
    order_id = record.attribute("subject")
    if not order_id:
        return bool(track or shelve) and record.topic != topics.PARKED
    partition = partition_of(order_id.encode(), partitions)
    return partition in track or partition in shelve


def _digest(message: Message) -> str:
    """Of a record without its headers, which the client library cannot always read."""
    key, value = message.key() or b"", message.value() or b""
    parts_of_it = (str(message.timestamp()[1]), repr(key), repr(value))
    return sha256("\n".join(parts_of_it).encode()).hexdigest()


def _digests(log: Log, topic: str, ranges: Mapping[int, tuple[int, int]]) -> dict[int, dict[int, str]]:
    """The digests by partition and offset. A record that cannot be read has none."""
    digests: dict[int, dict[int, str]] = {}
    try:
        for messages in log.read(topic, ranges):
            for message in messages:
                digests.setdefault(message.partition() or 0, {})[message.offset() or 0] = _digest(message)
    except TransientError:
        return digests
    return digests


def _last_digests(log: Log, topic: str, ranges: Mapping[int, tuple[int, int]]) -> dict[int, dict[int, str]]:
    return {
        partition: dict([max(digests.items())]) for partition, digests in _digests(log, topic, ranges).items()
    }


def _oldest(log: Log, topic: str, ranges: Mapping[int, tuple[int, int]]) -> tuple[datetime, str] | None:
    """The earliest time among the first records of the ranges, and where that record is. None where the ranges have no
    record."""
    first: dict[int, tuple[int, int]] = {}
    for messages in log.read(topic, ranges):
        for message in messages:
            first.setdefault(message.partition() or 0, (message.timestamp()[1], message.offset() or 0))
        if first:
            break
    if not first:
        return None
    partition, (written_at, offset) = min(first.items(), key=lambda each: each[1])
    return datetime.fromtimestamp(written_at / 1000, UTC), f"partition {partition}, offset {offset}"
