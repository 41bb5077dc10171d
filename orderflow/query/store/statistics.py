"""Counts that query shows: what needs attention, rates and outcomes."""

from __future__ import annotations

# The contracts read these annotations, so the names must exist at runtime.
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003


@dataclass(frozen=True, slots=True)
class Need:
    """How many orders or events need attention for one reason, and since when the oldest of them does."""

    name: str
    count: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Rate:
    """How many events of one stage had this outcome, per minute; minutes[0] is the last 60 s."""

    stage: str
    outcome: str
    minutes: tuple[int, ...]

    @property
    def last_minute(self) -> int:
        return self.minutes[0]


@dataclass(frozen=True, slots=True)
class LedgerCount:
    """revision: track's. validated_by: validate's revision, empty where it is not known. judged: the event was a
    verdict on a placed order, not an update that validate passed on."""

    kind: str
    outcome: str
    revision: str
    validated_by: str
    judged: bool
    count: int


@dataclass(frozen=True, slots=True)
class ParkedCount:
    """revision: the revision of the stage that parked the events. count: the number of parked events. times: how
    often they were parked, repetitions included."""

    stage: str
    code: str
    state: str
    revision: str
    count: int
    times: int


@dataclass(frozen=True, slots=True)
class NotificationCount:
    channel: str
    state: str
    revision: str
    count: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes of all events so far. status and payment count orders; orders that are `awaited` are counted only
    under status."""

    status: dict[str, int]
    payment: dict[str, int]
    ledger: list[LedgerCount]
    parked: list[ParkedCount]
    notifications: list[NotificationCount]
    waiting: int
    counted_at: datetime
