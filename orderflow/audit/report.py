"""What a run of the audit found and did, for people, for programs and for the row in the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datetime import datetime

MOST_NAMED: Final = 200
"""Of the missing events that a report names; it counts all of them."""


class State(StrEnum):
    """How a run ended, the worst first."""

    MISSING = "missing"
    """Something was nowhere to be found; the report says what was done about it."""
    UNJUDGED = "unjudged"
    """Retention took records before the audit saw them, or there was too little time: nobody can say."""
    BEHIND = "behind"
    """A stage is behind, so that what looks missing may only be under way. The next run looks again."""
    COMPLETE = "complete"


EXIT_CODES: Final = {State.COMPLETE: 0, State.MISSING: 1, State.UNJUDGED: 3, State.BEHIND: 3}


class Fate(StrEnum):
    """What became of one record."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    WAITING = "waiting"
    PARKED = "parked"
    DONE = "done"
    """Sent, not to be sent, or on the shelf: of topics that the ledger does not know."""
    MISSING = "missing"
    POSTPONED = "postponed"


class Remedy(StrEnum):
    """What the audit did about one that was missing."""

    REPUBLISHED = "republished"
    PARKED = "parked"
    SHELVED = "shelved"
    ANNOUNCED = "announced"
    LATER = "later"
    """Nothing yet: this run had no time left for it."""


@dataclass(slots=True)
class TopicReport:
    """Counts of records. in_flight are those that their stage has not confirmed yet, removed those that retention
    took before the audit read them."""

    read: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    in_flight: int = 0
    removed: int = 0

    def as_dict(self) -> dict[str, int]:
        fates = {fate.value: self.fates[fate] for fate in Fate}
        return {"read": self.read, **fates, "in_flight": self.in_flight, "removed": self.removed}


@dataclass(frozen=True, slots=True)
class Missing:
    """One event that was nowhere to be found. offset is None for a change that was never announced."""

    topic: str
    partition: int | None
    offset: int | None
    source: str
    id: str
    order_id: str
    reason: str
    remedy: Remedy


@dataclass(slots=True)
class Report:
    """waits_expired counts events that waited too long and were parked now; unannounced_unjudged are changes older
    than what retention left of the status topic."""

    id: str
    started_at: datetime
    finished_at: datetime | None = None
    topics: dict[str, TopicReport] = field(default_factory=dict)
    changes: int = 0
    changes_unjudged: int = 0
    changes_postponed: int = 0
    waits_expired: int = 0
    remedies: Counter[Remedy] = field(default_factory=Counter)
    named: list[Missing] = field(default_factory=list)
    missing: int = 0
    notes: list[str] = field(default_factory=list)
    cut_short: bool = False

    def found(self, missing: Missing) -> None:
        self.missing += 1
        self.remedies[missing.remedy] += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(missing)

    @property
    def state(self) -> State:
        if self.missing:
            return State.MISSING
        if self.cut_short or self.changes_unjudged or any(topic.removed for topic in self.topics.values()):
            return State.UNJUDGED
        if self.changes_postponed or any(topic.fates[Fate.POSTPONED] for topic in self.topics.values()):
            return State.BEHIND
        return State.COMPLETE

    @property
    def records(self) -> int:
        return sum(topic.read for topic in self.topics.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON with times in RFC 3339."""
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
            "waits_expired": self.waits_expired,
            "missing_count": self.missing,
            "remedies": {remedy.value: self.remedies[remedy] for remedy in Remedy},
            "missing": [asdict(each) for each in self.named],
            "notes": self.notes,
        }
