"""Compares what a release's canary decided with what the stable revision would decide."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.query.clients import topic_records
from orderflow.query.shadow import stages
from orderflow.query.shadow.report import ShadowReport
from orderflow.query.shadow.stages import TrackCanary, ValidateCanary
from orderflow.query.shadow.strata import choose

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.adapters.kafka.gap_reader import GapReader
    from orderflow.query.clients.revision import RevisionClient
    from orderflow.query.clients.topic_records import Ranges, TopicRecords
    from orderflow.query.shadow.cases import Case
    from orderflow.query.shadow.stages import Canary, Release
    from orderflow.query.store.reader import Reader

STAGES: Final = ("validate", "track")
SECONDS: Final = 15.0
READ_AT_ONCE: Final = 1000
MAX_READ: Final = 20_000
"""How many records of the events topic are searched for a sample."""
ENOUGH: Final = 4
"""A sample is chosen from so many times its size."""
PAGE_RECORDS: Final = 500
"""How many records of the events topic one page of the list goes through."""
MAX_LISTED: Final = 10_000
"""How many of the canary's events all pages of a list compare."""
_AT_ONCE: Final = 2
"""Comparisons at the same time: each reads in a process of its own."""
_WITHOUT_ADDRESS: Final = "SHADOW_URL is not set"


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next page of a list begins. left: what is left of the events topic. compared: the events so far."""

    left: Ranges
    compared: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """next: None on the last page. After a failure it is the position of the same page."""

    report: ShadowReport
    next: Position | None


class Shadow:
    """A comparison takes SECONDS for reading and SECONDS for judging at most. It raises nothing: what fails is in the
    report."""

    def __init__(
        self,
        reader: Reader,
        records: TopicRecords,
        revisions: RevisionClient | None,
        seconds: float = SECONDS,
    ) -> None:
        """revisions: None where query has no address of revisions. seconds replaces SECONDS."""
        self._reader = reader
        self._records = records
        self._revisions = revisions
        self._seconds = seconds
        self._slots = threading.Semaphore(_AT_ONCE)

    def sample(self, release: Release, size: int, minimum: int) -> ShadowReport:
        """Compares up to `size` of the canary's decisions: an equal share of each outcome, the newest of each."""
        report = ShadowReport(release.canary, release.stable, min(minimum, size))
        self._run(report, release, lambda reader: self._sampled(reader, release, size))
        return report

    def page(self, release: Release, position: Position | None) -> Page:
        """Compares all of the canary's decisions in a part of the events topic, from position on (None: from since)."""
        report = ShadowReport(release.canary, release.stable)
        following: list[Position] = []

        async def listed(reader: GapReader) -> list[Case]:
            canary = self._canary(release)
            left = (
                position.left
                if position is not None
                else await self._records.ranges_since(topics.EVENTS, canary.read_since)
            )
            records, rest = await topic_records.oldest(reader, topics.EVENTS, left, PAGE_RECORDS)
            chosen = await canary.cases(reader, canary.decisions(records))
            compared = len(chosen) + (position.compared if position is not None else 0)
            if rest and compared < MAX_LISTED:
                following.append(Position(rest, compared))
            return chosen

        self._run(report, release, listed)
        if report.failure:
            return Page(report, position)
        return Page(report, following[0] if following else None)

    def _canary(self, release: Release) -> Canary[Any]:
        if release.stage == "validate":
            return ValidateCanary(release, self._records)
        return TrackCanary(release, self._reader)

    async def _sampled(self, reader: GapReader, release: Release, size: int) -> list[Case]:
        canary = self._canary(release)
        parked = stages.parked(self._reader, release, size)
        decisions: list[Any] = []
        read = 0
        ranges = await self._records.ranges_since(topics.EVENTS, canary.read_since)
        async for records in topic_records.newest_first(reader, topics.EVENTS, ranges, READ_AT_ONCE):
            decisions += canary.decisions(records)
            read += len(records)
            if len(decisions) >= ENOUGH * size or read >= MAX_READ:
                break
        chosen = await canary.cases(reader, choose(decisions, size))
        return choose([*parked, *chosen], size)

    def _run(
        self,
        report: ShadowReport,
        release: Release,
        choose_cases: Callable[[GapReader], Awaitable[list[Case]]],
    ) -> None:
        if self._revisions is None:
            report.failure = _WITHOUT_ADDRESS
        elif not self._slots.acquire(timeout=self._seconds):
            report.failure = "other comparisons take all the time"
        else:
            try:
                asyncio.run(self._compare(report, release, choose_cases, self._revisions))
            finally:
                self._slots.release()

    async def _compare(
        self,
        report: ShadowReport,
        release: Release,
        choose_cases: Callable[[GapReader], Awaitable[list[Case]]],
        revisions: RevisionClient,
    ) -> None:
        try:
            async with asyncio.timeout(self._seconds), self._records.reader() as reader:
                chosen = await choose_cases(reader)
        except TimeoutError:
            report.failure = f"the records were not read within {self._seconds:g} s"
        except TransientError as error:
            report.failure = str(error)
        else:
            questions = [case.question for case in chosen]
            report.add(
                chosen,
                await revisions.judge(release.stage, release.stable, questions, self._seconds),
            )
