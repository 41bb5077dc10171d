"""The scan of one topic, from where the last run ended to the last record that its stage has confirmed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orderflow.audit.kafka_record import KafkaRecord
from orderflow.audit.report import RecordStatus, TopicReport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime

    from confluent_kafka import Message

    from orderflow.adapters.kafka.log import Log, OffsetRange
    from orderflow.audit.checks import Check

MAX_SUSPECTS: Final = 5000
MAX_SUSPECT_BYTES: Final = 64 * 1024 * 1024
"""The size of the suspects that a run keeps in memory. At either limit the scan stops, and the next run continues."""


@dataclass(slots=True)
class TopicScan:
    """Offsets are by partition: a run judges records from start_offsets up to, without, end_offsets, and has judged
    those before positions. suspects are records about which the database knows nothing so far. full: the scan has
    stopped before its end."""

    check: Check
    report: TopicReport
    start_offsets: dict[int, int]
    end_offsets: dict[int, int]
    positions: dict[int, int] = field(default_factory=dict)
    suspects: list[KafkaRecord] = field(default_factory=list)
    full: bool = False
    _suspect_bytes: int = 0

    async def judge(self, messages: Sequence[Message], youngest: datetime) -> list[KafkaRecord]:
        """Judges those messages that are in the scan's offsets. Returns all of them as records.

        A partition's scan ends at the first record that was written after youngest: a stage may still be handling
        events as recent as that.
        """
        all_records = records(messages)
        in_scope = [record for record in all_records if self._is_in_scope(record, youngest)]
        if in_scope:
            self.report.read += len(in_scope)
            for record, status in zip(in_scope, await self.check.statuses(in_scope), strict=True):
                self.positions[record.partition] = record.offset + 1
                if status is RecordStatus.MISSING:
                    self._suspect(record)
                else:
                    self.report.statuses[status] += 1
        return all_records

    def _is_in_scope(self, record: KafkaRecord, youngest: datetime) -> bool:
        partition = record.partition
        if self.full or not self.start_offsets[partition] <= record.offset < self.end_offsets[partition]:
            return False
        if record.written_at > youngest:
            self.end_offsets[partition] = record.offset
            return False
        return True

    def _suspect(self, record: KafkaRecord) -> None:
        self.suspects.append(record)
        self._suspect_bytes += len(record.value or b"")
        self.full = len(self.suspects) >= MAX_SUSPECTS or self._suspect_bytes >= MAX_SUSPECT_BYTES

    def next_positions(self) -> dict[int, int]:
        """The offsets at which the next run continues: the positions, but not past a suspect."""
        positions = dict(self.positions)
        for record in self.suspects:
            positions[record.partition] = min(positions[record.partition], record.offset)
        return positions

    def finish(self) -> None:
        """Moves the positions to the end of the scan, where it was read to its end: the last offsets may hold no
        record."""
        if not self.full:
            for partition, end in self.end_offsets.items():
                position = self.positions.get(partition, self.start_offsets[partition])
                self.positions[partition] = max(position, end)


def records(messages: Sequence[Message]) -> list[KafkaRecord]:
    return [KafkaRecord.of(message) for message in messages]


def begin(
    check: Check,
    ranges: Mapping[int, OffsetRange],
    committed: Mapping[int, int],
    saved_positions: Mapping[int, int],
) -> tuple[TopicScan, list[str]]:
    """A scan from the saved positions up to the committed offsets, and notes for the report.

    ranges, committed (what the stage has confirmed) and saved_positions are by partition.
    """
    report = TopicReport()
    notes: list[str] = []
    start_offsets: dict[int, int] = {}
    end_offsets: dict[int, int] = {}
    for partition, offsets in ranges.items():
        position = saved_positions.get(partition)
        where = f"{check.topic} partition {partition}"
        if position is not None and position > offsets.end:
            notes.append(
                f"{where}: ends at {offsets.end}, but the audit had reached {position}: the topic was created anew"
            )
            position = None
        elif position is not None and position < offsets.start:
            removed = offsets.start - position
            report.removed += removed
            notes.append(f"{where}: retention removed {removed} records that were never audited")
        elif position is None and offsets.start > 0:
            notes.append(
                f"{where}: the first audit begins at {offsets.start}; earlier records cannot be judged"
            )
        start_offsets[partition] = max(position or 0, offsets.start)
        confirmed = committed.get(partition, offsets.start)
        end_offsets[partition] = max(start_offsets[partition], min(confirmed, offsets.end))
    return TopicScan(check, report, start_offsets, end_offsets), notes


async def batches(
    log: Log, topic: str, ranges: Mapping[int, tuple[int, int]]
) -> AsyncGenerator[list[Message]]:
    """log.read() in a thread. The next batch is fetched while the caller handles the current one."""
    source = log.read(topic, ranges)
    next_batch = asyncio.create_task(asyncio.to_thread(next, source, None))
    try:
        while (messages := await next_batch) is not None:
            next_batch = asyncio.create_task(asyncio.to_thread(next, source, None))
            yield messages
    finally:
        await asyncio.gather(next_batch, return_exceptions=True)
        source.close()
