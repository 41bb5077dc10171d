"""The report of a run of the audit: what was missing, and how it was repaired."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MAX_NAMED: Final = 200
"""Of the missing events that a report names. It counts all of them."""
MAX_LOST: Final = 1000
"""Of a topic's lost events, and of a revision's unannounced changes, that a report has the times of: the latest."""


class State(StrEnum):
    """How a run ended. Where several apply, the first counts."""

    MISSING = "missing"
    """Events were missing. The report says how each was repaired."""
    UNJUDGED = "unjudged"
    """Not every record could be judged: retention removed records before the audit read them, or time ran out."""
    BEHIND = "behind"
    """A stage is behind: a record has been in flight for longer than it should, or its group has never confirmed any.
    Events that look missing may only be delayed. The next run checks them again."""
    COMPLETE = "complete"


EXIT_CODES: Final = {State.COMPLETE: 0, State.MISSING: 1, State.UNJUDGED: 3, State.BEHIND: 3}


class RecordStatus(StrEnum):
    APPLIED = "applied"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    WAITING = "waiting"
    PARKED = "parked"
    EMPTY = "empty"
    """No record is at the offset: it belongs to a transaction's marker or to an aborted transaction, or compaction
    removed it."""
    DONE = "done"
    """Of the topics that the ledger does not cover: sent, not due to be sent, or stored as a parked event."""
    MISSING = "missing"
    POSTPONED = "postponed"


class Remedy(StrEnum):
    """How the audit repaired a missing event."""

    REPUBLISHED = "republished"
    PARKED = "parked"
    SHELVED = "shelved"
    ANNOUNCED = "announced"
    LATER = "later"
    """Not repaired yet: this run had no time left."""


@dataclass(slots=True)
class TopicReport:
    """Counts of offsets. judged is how many this run judged: handled are those that their stage has recorded, and the
    statuses are those of the others, which the run had to read. in_flight counts those that their stage has not
    confirmed yet or that are too young to be judged, removed those whose record is gone without anybody knowing whether
    it was handled."""

    judged: int = 0
    handled: int = 0
    statuses: Counter[RecordStatus] = field(default_factory=Counter)
    in_flight: int = 0
    removed: int = 0

    def as_dict(self) -> dict[str, int]:
        statuses = {status.value: self.statuses[status] for status in RecordStatus}
        counts = {"judged": self.judged, "handled": self.handled}
        return counts | statuses | {"in_flight": self.in_flight, "removed": self.removed}


@dataclass(frozen=True, slots=True)
class Missing:
    """One missing event. partition and offset are None for a change that was never announced."""

    topic: str
    partition: int | None
    offset: int | None
    source: str
    id: str
    order_id: str
    reason: str
    remedy: Remedy
    lost_at: datetime | None = None
    """When the event was written, or the change committed. None where no stage is at fault, because KafkaSource drops
    such a record."""
    revision: str = ""
    """The revision of track that committed a change and did not announce it."""


@dataclass(slots=True)
class Report:
    """waits_expired counts the events that this run parked because they had waited too long. changes_unjudged counts
    the numbers of changes that a transaction which still runs may have taken. unknown: records may have existed of
    which nothing is known. behind: a stage is behind."""

    id: str
    started_at: datetime
    finished_at: datetime | None = None
    topics: dict[str, TopicReport] = field(default_factory=dict)
    changes: int = 0
    changes_unjudged: int = 0
    changes_postponed: int = 0
    lost_at: dict[str, list[datetime]] = field(default_factory=dict)
    """By topic, when the events were written that its stage answered and did nothing with."""
    unannounced: dict[str, list[datetime]] = field(default_factory=dict)
    """By revision of track, when it committed the changes that were never announced."""
    waits_expired: int = 0
    remedies: Counter[Remedy] = field(default_factory=Counter)
    named: list[Missing] = field(default_factory=list)
    missing: int = 0
    notes: list[str] = field(default_factory=list)
    cut_short: bool = False
    unknown: bool = False
    behind: bool = False

    def add_missing(self, missing: Missing) -> None:
        self.missing += 1
        self.remedies[missing.remedy] += 1
        if missing.lost_at is not None:
            times, key = (
                (self.unannounced, missing.revision) if missing.revision else (self.lost_at, missing.topic)
            )
            times.setdefault(key, []).append(missing.lost_at)
        if len(self.named) < MAX_NAMED:
            self.named.append(missing)

    @property
    def state(self) -> State:
        if self.missing:
            return State.MISSING
        if self.cut_short or self.unknown or any(topic.removed for topic in self.topics.values()):
            return State.UNJUDGED
        if (
            self.behind
            or self.changes_unjudged
            or self.changes_postponed
            or any(topic.statuses[RecordStatus.POSTPONED] for topic in self.topics.values())
        ):
            return State.BEHIND
        return State.COMPLETE

    @property
    def records(self) -> int:
        return sum(topic.judged for topic in self.topics.values())

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it, with times in RFC 3339."""
        return {
            "id": self.id,
            "state": self.state.value,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "records": self.records,
            "topics": {name: topic.as_dict() for name, topic in self.topics.items()},
            "changes": self.changes,
            "changes_unjudged": self.changes_unjudged,
            "changes_postponed": self.changes_postponed,
            "lost_at": {name: _latest(times) for name, times in self.lost_at.items()},
            "unannounced": {name: _latest(times) for name, times in self.unannounced.items()},
            "waits_expired": self.waits_expired,
            "missing_count": self.missing,
            "remedies": {remedy.value: self.remedies[remedy] for remedy in Remedy},
            "missing": [_named(each) for each in self.named],
            "notes": self.notes,
        }


def _latest(times: Sequence[datetime]) -> list[str]:
    return [each.isoformat() for each in sorted(times)[-MAX_LOST:]]


def _named(missing: Missing) -> dict[str, Any]:
    lost_at = missing.lost_at.isoformat() if missing.lost_at else None
    return asdict(missing) | {"lost_at": lost_at}
