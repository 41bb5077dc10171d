"""The shop's time limits, and the alerts for orders that exceed them. An alert's code is stable across releases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from orderflow.domain.orders import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

LimitHours = Annotated[float, Field(ge=0, le=24 * 366)]
"""0 means no limit."""

STATUSES: Final = ("awaited", "held", "accepted", "packed", "shipped")
"""The statuses in which an order can get stuck; all others are final. `awaited`: events wait for the order to be
placed."""
PAYMENT_STATUSES: Final = ("accepted", "packed")
"""The order statuses in which a payment can get stuck. Earlier, the order itself is held; later, unpaid goods need
attention at once."""
SEQUENCE_GAP: Final = "sequence_gap"
WAITING_EXPIRES: Final = "waiting_expires"


class PaymentLimits(Frozen):
    """The limits while an order is accepted or packed."""

    unpaid: LimitHours = 72
    authorised: LimitHours = 168


class StuckLimits(Frozen):
    """Hours that an order may stay in one status, or its payment in one state, before the order counts as stuck.

    waiting_left: hours before a waiting event is parked at which the alert for it begins.
    """

    awaited: LimitHours = 4
    held: LimitHours = 24
    accepted: LimitHours = 48
    packed: LimitHours = 24
    shipped: LimitHours = 240
    payment: PaymentLimits = PaymentLimits()
    waiting_left: LimitHours = 4

    def hours_by_status(self) -> dict[str, float]:
        """Without the statuses that have no limit."""
        return {status: hours for status in STATUSES if (hours := getattr(self, status))}

    def hours_by_payment(self) -> dict[str, float]:
        return {payment: hours for payment, hours in self.payment if hours}


class GapLimits(Frozen):
    """hours: how long a number may be missing from a producer's sequence, since events overtake one another.

    ignored_sources: sources that do not number the events of each order separately.
    """

    hours: LimitHours = 1
    ignored_sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OrderAge:
    """An order's status and payment, and since when the order has had them."""

    status: str
    status_since: datetime
    payment: str
    payment_since: datetime


@dataclass(frozen=True, slots=True)
class Alert:
    """since: when the condition began; hours: the limit that is exceeded.

    For `waiting_expires`, since is when the event will be parked, and hours is how long before that the alert begins.
    """

    code: str
    since: datetime
    hours: float


def stuck_code(name: str) -> str:
    """The alert's code for a status of an order or a state of a payment."""
    return f"stuck_{name}"


def stuck_alerts(limits: StuckLimits, age: OrderAge, now: datetime) -> Iterator[Alert]:
    ages = [(age.status, age.status_since, limits.hours_by_status())]
    if age.status in PAYMENT_STATUSES:
        ages.append((age.payment, age.payment_since, limits.hours_by_payment()))
    for name, since, hours_by_name in ages:
        hours = hours_by_name.get(name)
        if hours is not None and since < now - timedelta(hours=hours):
            yield Alert(stuck_code(name), since, hours)
