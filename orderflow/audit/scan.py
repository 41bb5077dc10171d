"""One topic, read from where the last run ended to where its stage has come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orderflow.audit.kafka_record import Record
from orderflow.audit.report import Fate, TopicReport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime

    from confluent_kafka import Message

    from orderflow.adapters.kafka.log import Extent, Log
    from orderflow.audit.checks import Check

MOST_SUSPECTS: Final = 5000
MOST_SUSPECT_BYTES: Final = 64 * 1024 * 1024
"""What is kept of records to look at again; more than that stops the reading until the next run."""


@dataclass(slots=True)
class Reading:
    """reached is by partition where the next run goes on; suspects are records of which nothing is known yet."""

    check: Check
    report: TopicReport
    begins: dict[int, int]
    untils: dict[int, int]
    reached: dict[int, int] = field(default_factory=dict)
    suspects: list[Record] = field(default_factory=list)
    full: bool = False
    _suspect_bytes: int = 0

    async def take(self, messages: Sequence[Message], youngest: datetime) -> list[Record]:
        """Judges those records that are its to judge; returns all of them, read. A partition ends at the first
        record that was written after youngest: what has just happened may still be under way."""
        found = records(messages)
        mine = [record for record in found if self._is_mine(record, youngest)]
        if mine:
            self.report.read += len(mine)
            for record, fate in zip(mine, await self.check.fates(mine), strict=True):
                self.reached[record.partition] = record.offset + 1
                if fate is Fate.MISSING:
                    self._suspect(record)
                else:
                    self.report.fates[fate] += 1
        return found

    def _is_mine(self, record: Record, youngest: datetime) -> bool:
        partition = record.partition
        if self.full or not self.begins[partition] <= record.offset < self.untils[partition]:
            return False
        if record.written_at > youngest:
            self.untils[partition] = record.offset
            return False
        return True

    def _suspect(self, record: Record) -> None:
        self.suspects.append(record)
        self._suspect_bytes += len(record.value or b"")
        self.full = len(self.suspects) >= MOST_SUSPECTS or self._suspect_bytes >= MOST_SUSPECT_BYTES

    def positions(self) -> dict[int, int]:
        """Where the next run goes on, as things are: not past a record that is still suspect."""
        found = dict(self.reached)
        for record in self.suspects:
            found[record.partition] = min(found[record.partition], record.offset)
        return found

    def finish(self) -> None:
        """What was read to its end is reached, though its last offsets hold no record."""
        if not self.full:
            for partition, until in self.untils.items():
                self.reached[partition] = max(self.reached.get(partition, self.begins[partition]), until)


def records(messages: Sequence[Message]) -> list[Record]:
    return [Record.of(message) for message in messages]


def begin(
    check: Check, extents: Mapping[int, Extent], committed: Mapping[int, int], known: Mapping[int, int]
) -> tuple[Reading, list[str]]:
    """A reading from the known positions up to what the stage has confirmed, and what there is to say of it."""
    report = TopicReport()
    notes: list[str] = []
    begins: dict[int, int] = {}
    untils: dict[int, int] = {}
    for partition, extent in extents.items():
        position = known.get(partition)
        where = f"{check.topic} partition {partition}"
        if position is not None and position > extent.end:
            notes.append(
                f"{where}: ends at {extent.end}, the audit had reached {position}: the topic was made anew"
            )
            position = None
        elif position is not None and position < extent.start:
            report.removed += extent.start - position
            notes.append(
                f"{where}: retention removed {extent.start - position} records that were never audited"
            )
        elif position is None and extent.start > 0:
            notes.append(
                f"{where}: the first audit begins at {extent.start}; nobody can judge what came before"
            )
        begins[partition] = max(position or 0, extent.start)
        confirmed = committed.get(partition, extent.start)
        untils[partition] = max(begins[partition], min(confirmed, extent.end))
    return Reading(check, report, begins, untils), notes


async def batches(
    log: Log, topic: str, ranges: Mapping[int, tuple[int, int]]
) -> AsyncGenerator[list[Message]]:
    """log.read() outside of the event loop; while one batch is judged the next one is fetched."""
    source = log.read(topic, ranges)
    coming = asyncio.create_task(asyncio.to_thread(next, source, None))
    try:
        while (messages := await coming) is not None:
            coming = asyncio.create_task(asyncio.to_thread(next, source, None))
            yield messages
    finally:
        await asyncio.gather(coming, return_exceptions=True)
        source.close()
