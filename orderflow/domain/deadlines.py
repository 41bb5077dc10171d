"""How long the shop lets things stand, and the alerts that follow: each has a code that stays the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from orderflow.domain.orders import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

Limit = Annotated[float, Field(ge=0, le=24 * 366)]
"""Hours. 0: there is no limit."""

STATUSES: Final = ("awaited", "held", "accepted", "packed", "shipped")
"""In which an order can get stuck; in all others it has come to its end. `awaited`: events wait for its placing."""
OWING: Final = ("accepted", "packed")
"""In which a payment can get stuck. Before, the order itself is held; after, goods that are not paid are a need
at once."""
SEQUENCE_GAP: Final = "sequence_gap"
WAITING_EXPIRES: Final = "waiting_expires"


class StuckPayment(Frozen):
    """Of orders that are accepted or packed."""

    unpaid: Limit = 72
    authorised: Limit = 168


class Stuck(Frozen):
    """Hours that an order may be in one status, or a payment in one state, before it counts as stuck. waiting_left
    is how many hours before it is parked an event that waits is told of."""

    awaited: Limit = 4
    held: Limit = 24
    accepted: Limit = 48
    packed: Limit = 24
    shipped: Limit = 240
    payment: StuckPayment = StuckPayment()
    waiting_left: Limit = 4

    def of_status(self) -> dict[str, float]:
        """Hours by status, those without a limit left out."""
        return {name: hours for name in STATUSES if (hours := getattr(self, name))}

    def of_payment(self) -> dict[str, float]:
        return {name: hours for name, hours in self.payment if hours}

    def codes(self) -> dict[str, float]:
        """Hours by code."""
        return {code_of(name): hours for name, hours in (self.of_status() | self.of_payment()).items()}


class Gaps(Frozen):
    """hours is how long a number may be missing from a producer's sequence: events do overtake one another. A source
    that does not number each order's events on its own belongs into ignored_sources."""

    hours: Limit = 1
    ignored_sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an order stands, and since when it does."""

    status: str
    status_since: datetime
    payment: str
    payment_since: datetime


@dataclass(frozen=True, slots=True)
class Alert:
    """since is when it began, hours the limit that it is over; of what is about to expire, when it will and how
    many hours before that is told."""

    code: str
    since: datetime
    hours: float


def code_of(name: str) -> str:
    """The alert of a status or of a state of payment."""
    return f"stuck_{name}"


def stuck(limits: Stuck, where: Standing, now: datetime) -> Iterator[Alert]:
    """The alerts of an order that stands there."""
    spans = [(where.status, where.status_since, limits.of_status())]
    if where.status in OWING:
        spans.append((where.payment, where.payment_since, limits.of_payment()))
    for name, since, by_name in spans:
        hours = by_name.get(name)
        if hours is not None and since < now - timedelta(hours=hours):
            yield Alert(code_of(name), since, hours)
