"""Accounts for what was sent: every confirmed event must have an outcome, and every order the end of its scenario."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

import psycopg
from psycopg.rows import dict_row
from rich.table import Table

from orderflow.messaging.cloudevent import derived_id
from orderflow.notify.model import CustomerKind
from orderflow.track.decision import STAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from orderflow_sandbox.messages import OrderScenario
    from orderflow_sandbox.sender import SendLog

_CHUNK: Final = 2000
EMAILED: Final = frozenset(get_args(CustomerKind))
"""The kinds of events for which a customer gets an e-mail."""

_LEDGER: Final = """
SELECT l.source, l.id, l.outcome, l.reason ->> 'code' AS reason
FROM unnest(%(source)s::text[], %(id)s::text[]) AS e (source, id) JOIN ledger l USING (source, id)
"""
_PARKED: Final = """
SELECT p.source, p.event_id AS id, p.code
FROM unnest(%(source)s::text[], %(id)s::text[]) AS e (source, id)
JOIN parked p ON p.source = e.source AND p.event_id = e.id
UNION ALL
SELECT p.attributes ->> 'originsource', p.attributes ->> 'originid', p.code
FROM parked p WHERE p.order_id = ANY (%(orders)s) AND p.stage = 'track'
"""
_ORDERS: Final = """
SELECT o.order_id, o.status, o.payment,
       (SELECT h.detail -> 'reasons' FROM history h WHERE h.order_id = o.order_id AND h.version = 1) AS reasons
FROM orders o WHERE o.order_id = ANY (%(orders)s)
"""
_HISTORY: Final = "SELECT order_id, source, id, kind FROM history WHERE order_id = ANY (%(orders)s)"
_NOTIFICATIONS: Final = """
SELECT event_id, channel, state FROM notifications WHERE order_id = ANY (%(orders)s)
"""


@dataclass(slots=True)
class Account:
    """What became of everything that was sent.

    `missing_events` are (source, id) without an outcome, `missing_notifications` (order id, kind) without an e-mail.
    `missing_orders` are the ids of orders that lack one of these or do not exist. `unexpected` describes orders with
    another end than that of their scenario.
    """

    orders: int = 0
    events: int = 0
    duplicates: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    notifications: Counter[str] = field(default_factory=Counter)
    missing_events: list[tuple[str, str]] = field(default_factory=list)
    missing_notifications: list[tuple[str, str]] = field(default_factory=list)
    missing_orders: set[str] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)

    @property
    def accounted(self) -> int:
        return self.orders - len(self.missing_orders)

    @property
    def settled(self) -> bool:
        """Whether nothing of what was sent is still on its way."""
        return not self.missing_orders

    @property
    def complete(self) -> bool:
        return self.settled and not self.unexpected


def account(database: str, log: SendLog, emailed: frozenset[str] = EMAILED) -> Account:
    """Compares the log with the database. `emailed` are the kinds of events for which a customer gets an e-mail."""
    result = Account(orders=len(log.scenarios), events=sum(log.confirmed.values()), refused=log.refused)
    result.duplicates = result.events - len(log.confirmed)
    ids = list(log.confirmed)
    orders = [scenario.order_id for scenario in log.scenarios]
    with psycopg.connect(database, row_factory=dict_row, autocommit=True) as connection:
        recorded, parked = _outcomes(connection, result, ids, orders)
        states, reasons = _states(connection, orders)
        _check_notifications(connection, result, orders, emailed)
    result.missing_events = [
        identity for identity in ids if identity not in recorded and identity not in parked
    ]
    result.rejected = reasons
    result.parked = Counter(code for codes in parked.values() for code in codes)
    parked_per_order: Counter[str] = Counter()
    for identity, codes in parked.items():
        if identity in log.order_of:
            parked_per_order[log.order_of[identity]] += len(codes)
    for scenario in log.scenarios:
        order_id = scenario.order_id
        _compare(result, scenario, states.get(order_id), parked_per_order[order_id])
    result.missing_orders |= {log.order_of[identity] for identity in result.missing_events}
    result.missing_orders |= {order_id for order_id, _ in result.missing_notifications}
    return result


def _compare(result: Account, scenario: OrderScenario, end: tuple[str, str] | None, parked: int) -> None:
    """Compares the end of an order with that of its scenario."""
    if end:
        result.ends[end[0]] += 1
    elif scenario.end is not None or any(not message.refusal for message in scenario.messages):
        result.ends["parked"] += 1
    else:
        result.ends["refused by intake"] += 1
    if scenario.end is not None and end is None:
        result.missing_orders.add(scenario.order_id)
    described = f"{scenario.order_id} ({scenario.name})"
    if end != scenario.end:
        result.unexpected.append(f"{described}: {end}, not {scenario.end}")
    elif parked != scenario.parked:
        result.unexpected.append(f"{described}: {parked} parked, not {scenario.parked}")


Identity = tuple[str, str]


def _outcomes(
    connection: psycopg.Connection[dict[str, Any]],
    result: Account,
    ids: Sequence[Identity],
    orders: Sequence[str],
) -> tuple[set[Identity], dict[Identity, list[str]]]:
    """By (source, id): the events with an outcome in the ledger, and the reason codes of the parked ones."""
    recorded: set[Identity] = set()
    parked: dict[Identity, list[str]] = {}

    def look_up(chunk: Sequence[Identity], of_orders: Sequence[str]) -> None:
        keys = {"source": [source for source, _ in chunk], "id": [each for _, each in chunk]}
        for row in connection.execute(_LEDGER, keys).fetchall():
            result.outcomes[row["outcome"]] += 1
            if row["outcome"] != "parked":
                recorded.add((row["source"], row["id"]))
        for row in connection.execute(_PARKED, keys | {"orders": list(of_orders)}).fetchall():
            parked.setdefault((row["source"], row["id"]), []).append(row["code"])

    for chunk in _chunks(ids):
        look_up(chunk, [])
    look_up([], orders)
    return recorded, parked


def _states(
    connection: psycopg.Connection[dict[str, Any]], orders: Sequence[str]
) -> tuple[dict[str, tuple[str, str]], Counter[str]]:
    rows = connection.execute(_ORDERS, {"orders": list(orders)}).fetchall()
    reasons = Counter(
        reason["code"] for row in rows if row["status"] == "rejected" for reason in row["reasons"] or ()
    )
    return {row["order_id"]: (row["status"], row["payment"]) for row in rows}, reasons


def _check_notifications(
    connection: psycopg.Connection[dict[str, Any]],
    result: Account,
    orders: Sequence[str],
    emailed: frozenset[str],
) -> None:
    rows = connection.execute(_NOTIFICATIONS, {"orders": list(orders)}).fetchall()
    result.notifications = Counter(f"{row['channel']} {row['state']}" for row in rows)
    sent = {row["event_id"] for row in rows if row["channel"] == "email" and row["state"] == "sent"}
    for row in connection.execute(_HISTORY, {"orders": list(orders)}).fetchall():
        if row["kind"] in emailed and derived_id(STAGE, row["source"], row["id"]) not in sent:
            result.missing_notifications.append((row["order_id"], row["kind"]))


def _chunks(ids: Sequence[Identity]) -> Iterable[Sequence[Identity]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


def show(result: Account, log: SendLog, seconds: float, console: Console) -> None:
    """Prints the table of a run, and one line as its summary."""
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(justify="left", style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, count: int, details: Counter[str] | Counter[Any] | None = None) -> None:
        text = ", ".join(f"{key} {number}" for key, number in (details or Counter()).most_common())
        table.add_row(name, f"{count:,}", text)

    row("events sent", log.messages, log.transports)
    row("  confirmed", result.events)
    row("  refused by intake", sum(result.refused.values()), result.refused)
    row("  duplicates absorbed", result.duplicates)
    row("outcomes", sum(result.outcomes.values()), result.outcomes)
    row("parked", sum(result.parked.values()), result.parked)
    row("orders", result.orders, result.ends)
    row("  rejected because of", sum(result.rejected.values()), result.rejected)
    row("notifications", sum(result.notifications.values()), result.notifications)
    table.add_row(
        "time",
        f"{seconds:.1f} s",
        f"{result.orders / seconds:,.0f} orders/s, {result.events / seconds:,.0f} events/s",
    )
    console.print(table)
    for label, problems in (
        ("no outcome", [f"{source} {each}" for source, each in result.missing_events]),
        ("no order", sorted(result.missing_orders)),
        ("not notified", [f"{order_id} {kind}" for order_id, kind in result.missing_notifications]),
        ("ended elsewhere", result.unexpected),
    ):
        for problem in problems[:10]:
            console.print(f"{label}: {problem}", highlight=False)
        if len(problems) > 10:  # noqa: PLR2004 - enough to begin with
            console.print(f"{label}: ... and {len(problems) - 10} more")
    missing = result.orders - result.accounted
    console.print(
        f"orders: {result.orders} sent, {result.accounted} accounted for, {missing} missing", highlight=False
    )
