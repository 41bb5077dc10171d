"""The responses of intake and query as types. The code builds responses from rows; tests hold them to these types."""

# pydantic reads these annotations, so the names must exist at runtime.
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from orderflow.actions.repair import Repair
from orderflow.actions.service import Receipt
from orderflow.domain.deadlines import Alert
from orderflow.domain.release_analysis import Comparison, Presence, Verdict  # noqa: TC001
from orderflow.errors import Reason  # noqa: TC001
from orderflow.query.shadow.report import Difference, OtherVerdict  # noqa: TC001
from orderflow.query.store.read_model import (
    ActionDone,
    ActionResult,
    Gap,
    LedgerEntry,
    Notification,
    OrderChange,
    OrderSummary,
    ParkedSummary,
    WaitingEvent,
)
from orderflow.query.store.repairs import MarkedOrder  # noqa: TC001
from orderflow.query.store.statistics import Rate


class Problem(TypedDict):
    """An error as in RFC 9457. code: the same in every release. errors: one entry per invalid field."""

    type: str
    title: str
    status: int
    code: str
    errors: NotRequired[list[Reason]]


class EventAccepted(TypedDict):
    """The event is stored: all in-sync replicas have it."""

    order_id: str
    event_id: str
    status_url: str


class DryRun(TypedDict):
    """The verdict that the order would get, and the reasons for it."""

    would_be: Literal["accepted", "rejected", "held"]
    reasons: list[Reason]


@dataclass(frozen=True)
class OrderRow(OrderSummary):
    href: str


class OrdersPage(TypedDict):
    """older and newer: the addresses of the neighbouring pages, null where there is none."""

    orders: list[OrderRow]
    older: str | None
    newer: str | None


class StateChange(TypedDict("_Of", {"from": str})):
    of: str
    to: str


class TimelineEntry(TypedDict):
    """One event in the life of an order. The entries are in the order in which the events took effect."""

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
class AlertWithText(Alert):
    text: str


@dataclass(frozen=True)
class OrderDetail(OrderSummary):
    """Everything that is recorded about an order. document: the order as it was placed, {} before that. resumes: the
    status that a held order returns to."""

    resumes: str | None
    document: dict[str, Any]
    history: list[OrderChange]
    ledger: list[LedgerEntry]
    waiting: list[WaitingEvent]
    notifications: list[Notification]
    parked: list[ParkedSummary]
    actions: list[ActionDone]
    alerts: list[AlertWithText]
    gaps: list[Gap]
    timeline: list[TimelineEntry]


@dataclass(frozen=True)
class ParkedRow(ParkedSummary):
    href: str


class ParkedPage(TypedDict):
    parked: list[ParkedRow]
    older: str | None
    newer: str | None


@dataclass(frozen=True)
class ParkedDetail(ParkedSummary):
    """payload: a text for people; without personal data where masked is true. Only with reveal=1 there is editable, the
    document that an operator can edit, or not_editable, the reason why there is none."""

    actions: list[ActionResult]
    attributes: dict[str, str]
    payload: str
    payload_form: Literal["json", "text", "binary", "empty"]
    payload_bytes: int
    masked: bool
    editable: dict[str, Any] | None = None
    not_editable: str | None = None


@dataclass(frozen=True)
class ReceiptWithAddress(Receipt):
    """href: the address where the outcome will be. left: the parked events on which nothing was done."""

    href: str = ""


@dataclass(frozen=True)
class RepairWithAddress(Repair):
    """href: the address where the outcome will be. left: the parked events on which nothing was done, and what a person
    has to do."""

    href: str = ""


class MarkedOrders(TypedDict):
    """after: the order after which the next page begins, null where there is none."""

    orders: list[MarkedOrder]
    after: str | None


class ActionResults(TypedDict):
    """actions is empty until the first action of the request is recorded."""

    request: str
    actions: list[ActionResult]


@dataclass(frozen=True)
class RateWithSum(Rate):
    last_minute: int


class Rates(TypedDict):
    seconds_each: int
    rates: list[RateWithSum]


class InvariantVerdict(TypedDict):
    """What a correct revision never does, and how often the new one did it."""

    name: str
    count: int
    verdict: Verdict


class ReleaseVerdict(TypedDict):
    """Whether a stage's new revision treats orders as the stable one does. harm: a first sign of harm, although the
    verdict may not be worse yet. sentence: what the verdict rests on. since: from when both revisions are counted."""

    verdict: Verdict
    harm: bool
    sentence: str
    since: datetime | None
    outcomes: list[Comparison]
    invariants: list[InvariantVerdict]
    presence: Presence | None


class ShadowVerdict(TypedDict):
    """Whether the stable revision would judge alike. compared counts events. orders and next only with all=true: every
    event that is judged differently, and the page after this one."""

    verdict: Literal["fine", "different", "too_few", "unknown"]
    compared: int
    differences: list[Difference]
    sentence: str
    orders: NotRequired[list[OtherVerdict]]
    next: NotRequired[str | None]


class Missing(TypedDict):
    topic: str
    partition: int | None
    offset: int | None
    source: str
    id: str
    order_id: str
    reason: str
    remedy: str
    lost_at: NotRequired[datetime | None]
    revision: NotRequired[str]


class AuditReport(TypedDict):
    """The result of one run of the audit. state: missing, unjudged, behind or complete."""

    id: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    records: int
    topics: dict[str, dict[str, int]]
    changes: int
    changes_unjudged: int
    changes_postponed: int
    lost_at: NotRequired[dict[str, list[datetime]]]
    unannounced: NotRequired[dict[str, list[datetime]]]
    waits_expired: int
    missing_count: int
    remedies: dict[str, int]
    missing: list[Missing]
    notes: list[str]


class AuditRun(TypedDict):
    """state: running, killed, or the state of the report."""

    id: str
    started_at: datetime
    finished_at: datetime | None
    state: str
    report: AuditReport | None


class RolloutRow(TypedDict):
    """status: the status of the KnativeRollout."""

    name: str
    service: str
    step: int
    steps: int
    status: dict[str, Any]
    href: str


class Rollouts(TypedDict):
    rollouts: list[RolloutRow]


class RolloutDetail(TypedDict):
    """asks: the commands that the release allows now, by verb; each in words. verdict to invariants: the judgement that
    the release's analyses get; verdict is null where no release is judged."""

    name: str
    service: str
    status: dict[str, Any]
    steps: list[dict[str, Any]]
    analysed_beside: list[str]
    revisions: list[dict[str, Any]]
    asks: dict[str, str]
    verdict: Verdict | None
    harm: bool
    sentence: str
    outcomes: list[Comparison]
    invariants: list[InvariantVerdict]


class Contracts(TypedDict):
    """The paths of all contracts, relative to this address."""

    contracts: list[str]
