"""What intake and query answer, as types: the code builds these answers from rows, and tests hold it to them."""

# pydantic reads these annotations, so that what they name has to be there.
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from orderflow.actions.service import Receipt
from orderflow.domain.deadlines import Alert
from orderflow.domain.release_analysis import Compared, Presence, Verdict  # noqa: TC001
from orderflow.errors import Reason  # noqa: TC001
from orderflow.query.store.read_model import (
    ActionDone,
    ActionResult,
    Early,
    Entry,
    Gap,
    Notification,
    OrderSummary,
    ParkedSummary,
    Rate,
    Step,
)


class Problem(TypedDict):
    """An error as in RFC 9457. code stays the same over releases; errors has one entry per field at fault."""

    type: str
    title: str
    status: int
    code: str
    errors: NotRequired[list[Reason]]


class Taken(TypedDict):
    """The event is taken for good: all in-sync replicas have it."""

    order_id: str
    event_id: str
    status_url: str


class DryRun(TypedDict):
    """What would become of the order, and why."""

    would_be: Literal["accepted", "rejected", "held"]
    reasons: list[Reason]


@dataclass(frozen=True)
class OrderRow(OrderSummary):
    href: str


class OrdersPage(TypedDict):
    """older and newer are the addresses of the next pages, null where there is none."""

    orders: list[OrderRow]
    older: str | None
    newer: str | None


class StateChange(TypedDict("_Of", {"from": str})):
    of: str
    to: str


class Turn(TypedDict):
    """One event of an order's life, in the order in which they took effect."""

    at: datetime
    kind: str
    outcome: str
    stage: str
    revision: str
    version: int | None
    reason: dict[str, str] | None
    changes: list[StateChange]
    details: dict[str, str]
    parked: str | None


@dataclass(frozen=True)
class AlertTold(Alert):
    text: str


@dataclass(frozen=True)
class OrderDetail(OrderSummary):
    """All that is known of an order. document is the order as it was placed, {} before it was."""

    resumes: str | None
    document: dict[str, Any]
    history: list[Step]
    ledger: list[Entry]
    waiting: list[Early]
    notifications: list[Notification]
    parked: list[ParkedSummary]
    actions: list[ActionDone]
    alerts: list[AlertTold]
    gaps: list[Gap]
    timeline: list[Turn]


@dataclass(frozen=True)
class ParkedRow(ParkedSummary):
    href: str


class ParkedPage(TypedDict):
    parked: list[ParkedRow]
    older: str | None
    newer: str | None


@dataclass(frozen=True)
class ParkedDetail(ParkedSummary):
    """payload is text for people; with masked, personal data is taken out of it. With reveal=1 there is the event as
    it can be written anew, or why nobody can."""

    actions: list[ActionResult]
    attributes: dict[str, str]
    payload: str
    payload_form: Literal["json", "text", "binary", "empty"]
    payload_bytes: int
    masked: bool
    editable: dict[str, Any] | None = None
    not_editable: str | None = None


@dataclass(frozen=True)
class ReceiptShown(Receipt):
    """Where the outcome of what was asked for is told, and on which events nothing was done."""

    href: str = ""


class ActionsOf(TypedDict):
    """Empty until the first action of the request is on record."""

    request: str
    actions: list[ActionResult]


@dataclass(frozen=True)
class RateShown(Rate):
    last_minute: int


class Rates(TypedDict):
    seconds_each: int
    rates: list[RateShown]


class Released(TypedDict):
    """Whether a stage's new revision treats orders worse."""

    verdict: Verdict
    since: datetime | None
    outcomes: list[Compared]
    presence: Presence | None


class Missing(TypedDict):
    topic: str
    partition: int | None
    offset: int | None
    source: str
    id: str
    order_id: str
    reason: str
    remedy: str


class AuditReport(TypedDict):
    """What a run of the audit found. state is missing, unjudged, behind or complete."""

    id: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    records: int
    topics: dict[str, dict[str, int]]
    changes: int
    changes_unjudged: int
    changes_postponed: int
    waits_expired: int
    missing_count: int
    remedies: dict[str, int]
    missing: list[Missing]
    notes: list[str]


class AuditRun(TypedDict):
    """state is running, killed, or what the report says."""

    id: str
    started_at: datetime
    finished_at: datetime | None
    state: str
    report: AuditReport | None


class RolloutRow(TypedDict):
    """status is that of the KnativeRollout."""

    name: str
    service: str
    step: int
    steps: int
    status: dict[str, Any]
    href: str


class Rollouts(TypedDict):
    rollouts: list[RolloutRow]


class RolloutShown(TypedDict):
    """asks is what can be asked for now, by verb, in words."""

    name: str
    service: str
    status: dict[str, Any]
    steps: list[dict[str, Any]]
    analysed_beside: list[str]
    revisions: list[dict[str, Any]]
    asks: dict[str, str]
    verdict: Verdict | None
    outcomes: list[Compared]


class Contracts(TypedDict):
    """The paths of all contracts, below this address."""

    contracts: list[str]
