"""What each stage's canary has decided: found in the events topic and in the database, turned into cases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from orderflow.messaging import topics
from orderflow.query.shadow import cases
from orderflow.query.shadow.strata import InStratum

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from orderflow.adapters.kafka.gap_reader import GapReader
    from orderflow.adapters.kafka.kafka_record import KafkaRecord
    from orderflow.query.clients.topic_records import TopicRecords
    from orderflow.query.shadow.cases import Case, Published
    from orderflow.query.store.reader import Reader
    from orderflow.query.store.release_shadow import Decision

C = TypeVar("C", bound=InStratum)

LATE: Final = timedelta(minutes=15)
"""How long before the release an event may have been published that track's canary has decided."""


@dataclass(frozen=True, slots=True)
class Release:
    """since: when the canary got its share."""

    stage: str
    canary: str
    stable: str
    since: datetime


class Canary(Protocol[C]):
    """The decisions of one stage's canary. read_since: from when on the events topic is read."""

    @property
    def read_since(self) -> datetime: ...

    def decisions(self, records: Sequence[KafkaRecord]) -> list[C]:
        """The canary's decisions that these records of the events topic show."""
        ...

    async def cases(self, reader: GapReader, decisions: Sequence[C]) -> list[Case]:
        """Without what cannot be judged again."""
        ...


class ValidateCanary:
    """Its decisions are the events that it published; what it decided about is in the inbox."""

    def __init__(self, release: Release, records: TopicRecords) -> None:
        self._release = release
        self._records = records
        self.read_since = release.since

    def decisions(self, records: Sequence[KafkaRecord]) -> list[Published]:
        release = self._release
        events = [cases.published(record, release.canary, release.since) for record in records]
        return [event for event in events if event is not None]

    async def cases(self, reader: GapReader, decisions: Sequence[Published]) -> list[Case]:
        places = [event.place for event in decisions]
        originals = await self._records.at(reader, topics.INBOX, places)
        return _known(
            cases.of_validate(event, originals[event.place])
            for event in decisions
            if event.place in originals
        )


@dataclass(frozen=True, slots=True)
class Tracked:
    decision: Decision
    record: KafkaRecord

    @property
    def stratum(self) -> str:
        return self.decision.outcome


class TrackCanary:
    """Its decisions are rows of the ledger; what it decided about is in the events topic."""

    def __init__(self, release: Release, reader: Reader) -> None:
        self._release = release
        self._reader = reader
        self.read_since = release.since - LATE

    def decisions(self, records: Sequence[KafkaRecord]) -> list[Tracked]:
        by_identity = {
            (record.attribute("originsource"), record.attribute("originid")): record for record in records
        }
        decisions = self._reader.release_decisions(
            self._release.canary, self._release.since, list(by_identity)
        )
        return [Tracked(decision, by_identity[identity]) for identity, decision in decisions.items()]

    async def cases(self, _: GapReader, decisions: Sequence[Tracked]) -> list[Case]:
        return _known(cases.of_track(each.decision, each.record) for each in decisions)


def _known(judged: Iterable[Case | None]) -> list[Case]:
    return [case for case in judged if case is not None]


def parked(reader: Reader, release: Release, limit: int) -> list[Case]:
    """What the canary parked because of the event alone, latest first."""
    events = reader.parked_by_release(release.stage, release.canary, release.since, limit)
    return _known(cases.of_parked(event, release.stage) for event in events)
