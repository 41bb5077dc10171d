"""What the console reads. Amounts are minor units of the order's currency, times are UTC."""

from __future__ import annotations

# The contracts read these annotations, so that what they name has to be there.
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import Any

from orderflow.domain.deadlines import Alert  # noqa: TC001
from orderflow.domain.release_analysis import Count  # noqa: TC001


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """One line of a list. needs says why the order needs a hand (None: it does not); an order that events wait
    for and nobody has placed has the status `awaited`, no customer, no lines and no time of placing."""

    order_id: str
    status: str
    payment: str
    currency: str
    total: int
    captured: int
    refunded: int
    version: int
    needs: str | None
    customer: str | None
    lines: int | None
    placed_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """One change of an order; captured and refunded are what they were after it."""

    version: int
    source: str
    id: str
    kind: str
    status: str
    payment: str
    captured: int
    refunded: int
    detail: dict[str, Any]
    revision: str
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger: what became of an originating event."""

    source: str
    id: str
    kind: str
    outcome: str
    reason: dict[str, str] | None
    revision: str
    first_version: int | None
    last_version: int | None
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Early:
    """An event that waits for what must come before it, until it expires and is parked."""

    source: str
    id: str
    kind: str
    occurred_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Notification:
    event_id: str
    channel: str
    recipient: str
    kind: str
    state: str
    attempts: int
    error: str | None
    revision: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ActionDone:
    """What an operator did. outcome is `done` or `refused`, or `asked` where the ledger tells the outcome of the
    event that detail names in `event_id`."""

    id: str
    request: str
    kind: str
    order_id: str
    parked_id: str
    by: str
    reason: str | None
    detail: dict[str, Any]
    outcome: str
    refusal: dict[str, str] | None
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class ActionResult(ActionDone):
    """What came of an action: the stage and the state now of its letter, and what became of the event that was
    sent, if that is one of the ledger's."""

    parked_stage: str | None
    parked_state: str | None
    event_outcome: str | None
    event_reason: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class ParkedSummary:
    """A parked event without its content; times counts how often the same one was parked, replays how often an
    operator sent it again."""

    id: str
    order_id: str
    stage: str
    code: str
    reasons: list[dict[str, str]]
    event_type: str
    source: str
    event_id: str
    origin_source: str | None
    origin_id: str | None
    topic: str
    partition: int | None
    offset: int | None
    http_code: int | None
    revision: str
    state: str
    times: int
    replays: int
    parked_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    summary: ParkedSummary
    attributes: dict[str, str]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers that are missing from what a producer sent of an order, since when anything is."""

    source: str
    first: int
    last: int
    since: datetime


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """All that the database knows of an order; document is the order as it was placed, {} before it was."""

    summary: OrderSummary
    resumes: str | None
    document: dict[str, Any]
    history: list[Step]
    ledger: list[Entry]
    waiting: list[Early]
    notifications: list[Notification]
    parked: list[ParkedSummary]
    actions: list[ActionDone]
    alerts: list[Alert]
    gaps: list[Gap]


@dataclass(frozen=True, slots=True)
class Need:
    """How many need a hand for one reason, and since when the one does that has waited longest."""

    name: str
    count: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Rate:
    """What one stage brought about: how many in each of the last minutes, the youngest (the last 60 s) first."""

    stage: str
    outcome: str
    minutes: tuple[int, ...]

    @property
    def last_minute(self) -> int:
        return self.minutes[0]


@dataclass(frozen=True, slots=True)
class LedgerCount:
    """revision is track's, validated_by validate's (empty where it did not say); judged is whether the event was a
    verdict on an order, not an update that validate passed on."""

    kind: str
    outcome: str
    revision: str
    validated_by: str
    judged: bool
    count: int


@dataclass(frozen=True, slots=True)
class ParkedCount:
    """revision is that of the stage that parked; times is the number of parkings, repetitions included."""

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
    """What became of everything so far; status and payment count orders, `awaited` ones only under status."""

    status: dict[str, int]
    payment: dict[str, int]
    ledger: list[LedgerCount]
    parked: list[ParkedCount]
    notifications: list[NotificationCount]
    waiting: int
    counted_at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a release is judged by: (outcome, canary's count, stable's), counted since the canary's first trace."""

    since: datetime | None
    outcomes: list[tuple[str, Count, Count]]
