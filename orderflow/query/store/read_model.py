"""Orders and parked events as query reads them. Amounts are minor units of the order's currency, times are UTC."""

from __future__ import annotations

# The contracts read these annotations, so the names must exist at runtime.
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import Any

from orderflow.domain.deadlines import Alert  # noqa: TC001


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """needs: the reason why the order needs attention, or None. An order with the status `awaited` was not placed
    yet, but events wait for it; it has no customer, no lines and no placed_at."""

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
class OrderChange:
    """captured and refunded: the order's amounts after the change."""

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
class LedgerEntry:
    """The outcome of one originating event. revision: track's revision that decided."""

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
class WaitingEvent:
    """An event that waits for an earlier event; at expires_at it is parked."""

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
    """An operator's action. outcome is `sending` until Kafka has confirmed the event that the action sends, then
    `done`; or `refused`; or `asked`: the ledger has the outcome of the event whose id is in detail as `event_id`."""

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
    """An action and its effect. parked_stage and parked_state: the stage and the present state of its parked event.
    event_outcome and event_reason: the ledger's outcome of the event that the action sent, if the ledger has it."""

    parked_stage: str | None
    parked_state: str | None
    event_outcome: str | None
    event_reason: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class ParkedSummary:
    """A parked event without its content. times: how often the same event was parked. replays: how often an operator
    sent it again."""

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
class ParkedRecord:
    summary: ParkedSummary
    attributes: dict[str, str]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """The numbers first to last are missing from the events that a producer sent for an order. since: when the
    producer's numbers first had a gap."""

    source: str
    first: int
    last: int
    since: datetime


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """document: the order as it was placed, {} before that. resumes: the status that a held order returns to."""

    summary: OrderSummary
    resumes: str | None
    document: dict[str, Any]
    history: list[OrderChange]
    ledger: list[LedgerEntry]
    waiting: list[WaitingEvent]
    notifications: list[Notification]
    parked: list[ParkedSummary]
    actions: list[ActionDone]
    alerts: list[Alert]
    gaps: list[Gap]
