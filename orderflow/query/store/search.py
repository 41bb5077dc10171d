"""The list of orders: filters, search by prefix, and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg.rows import scalar_row
from psycopg.sql import SQL, Composed

from orderflow.domain.attention import ALERT_CODES
from orderflow.query.store.orders import SUMMARY_COLUMNS
from orderflow.query.store.read_model import OrderSummary
from orderflow.query.store.snapshot_pool import all_of, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import LiteralString

    from orderflow.query.store.filters import OrderFilter
    from orderflow.query.store.overdue import Alerts
    from orderflow.query.store.snapshot_pool import Connection, Values

MAX_MATCHES: Final = 20_000
"""Up to this many matches of a search are looked up by id and sorted. A search with more matches reads the orders,
latest first, and tests each: it meets enough matches for a page soon."""

ORDERS: Final = """
SELECT {columns}
FROM (SELECT o.* FROM orders o {join} WHERE {conditions} ORDER BY {inner_order} LIMIT %(limit)s) o
ORDER BY {outer_order}
"""
"""A page of orders. The inner query uses indexes only; the outer one reads the documents of the page's orders."""

MATCHES: Final = "SELECT order_id FROM order_search WHERE terms @@ %(terms)s::tsquery LIMIT %(limit)s"
USE_INDEX: Final = "SET LOCAL enable_seqscan = off"
"""For MATCHES. PostgreSQL estimates every prefix at 0.5 % of the rows, far off for both `a` and a full address."""
USE_ESTIMATES: Final = "SET LOCAL enable_seqscan = on"

CONDITIONS: Final[dict[str, LiteralString]] = {
    "status": "o.status = %(status)s",
    "payment": "o.payment = %(payment)s AND o.status <> 'awaited'",
    "paid": "o.payment = 'paid'",
    "needs": "o.needs = %(attention)s",
    "awaited": ("o.needs = 'awaited' AND EXISTS (SELECT FROM waiting w WHERE w.order_id = o.order_id)"),
    "notification_failed": (
        "o.order_id IN (SELECT n.order_id FROM notifications n WHERE n.state = 'failed')"
    ),
    "alerted": "o.order_id = ANY(%(alerted_ids)s)",
    "matching_ids": "o.order_id = ANY(%(matching_ids)s)",
    "terms": "s.terms @@ %(terms)s::tsquery",
    "placed_from": "s.placed_at >= %(placed_from)s",
    "placed_to": "s.placed_at < %(placed_to)s",
    "older": "(o.updated_at, o.order_id) < (%(cursor_at)s, %(cursor_id)s)",
    "newer": "(o.updated_at, o.order_id) > (%(cursor_at)s, %(cursor_id)s)",
    "placed_before": "(s.placed_at, s.order_id) < (%(cursor_at)s, %(cursor_id)s)",
    "placed_after": "(s.placed_at, s.order_id) > (%(cursor_at)s, %(cursor_id)s)",
}


def page(
    connection: Connection, order_filter: OrderFilter, alerts: Alerts, max_matches: int
) -> list[OrderSummary]:
    """The rows of the page and, where more rows follow, one row more."""
    terms = order_filter.terms
    matching_ids = _matching_ids(connection, terms, max_matches) if terms else None
    codes = ALERT_CODES.get(order_filter.attention or "")
    alerted_ids = alerts.order_ids(connection, list(codes), max_matches) if codes else []
    statement, values = _statement(order_filter, matching_ids, alerted_ids)
    return fetch(connection, OrderSummary, statement, values)


def _matching_ids(connection: Connection, terms: Sequence[str], max_matches: int) -> list[str] | None:
    """The ids of the orders that match; None where they are more than max_matches."""
    connection.execute(USE_INDEX)
    values = {"terms": _tsquery(terms), "limit": max_matches + 1}
    ids = connection.cursor(row_factory=scalar_row).execute(MATCHES, values).fetchall()
    connection.execute(USE_ESTIMATES)
    return ids if len(ids) <= max_matches else None


def _statement(
    order_filter: OrderFilter, matching_ids: list[str] | None, alerted_ids: list[str]
) -> tuple[Composed, Values]:
    names, values = _conditions(order_filter, matching_ids, alerted_ids)
    by_placing, newer = order_filter.by_placing, order_filter.towards_newer
    if order_filter.cursor is not None:
        directions = ("placed_before", "placed_after") if by_placing else ("older", "newer")
        names.append(directions[newer])
        values |= {"cursor_at": order_filter.cursor.at, "cursor_id": order_filter.cursor.id}
    join = by_placing or "terms" in names
    by_change: LiteralString = "o.updated_at, o.order_id"
    statement = SQL(ORDERS).format(
        columns=SUMMARY_COLUMNS,
        join=SQL("JOIN order_search s ON s.order_id = o.order_id" if join else ""),
        conditions=all_of([CONDITIONS[name] for name in names]),
        inner_order=_order("s.placed_at, s.order_id" if by_placing else by_change, newer=newer),
        outer_order=_order("o.placed_at, o.order_id" if by_placing else by_change, newer=newer),
    )
    return statement, values


def _conditions(
    order_filter: OrderFilter, matching_ids: list[str] | None, alerted_ids: list[str]
) -> tuple[list[str], Values]:
    """The names of the filter's conditions, without the cursor's, and their values."""
    values: Values = {"limit": order_filter.limit + 1, "alerted_ids": alerted_ids}
    names: list[str] = []
    if order_filter.status is not None:
        names.append("status")
        values["status"] = str(order_filter.status)
    if order_filter.payment is not None:
        # `paid` is a literal: most orders are paid, and the index of the payment holds only the others.
        names.append("payment" if order_filter.payment != "paid" else "paid")
        values["payment"] = str(order_filter.payment)
    if order_filter.attention in ALERT_CODES:
        names.append("alerted")
    elif order_filter.attention is not None:
        names.append(order_filter.attention if order_filter.attention in CONDITIONS else "needs")
        values["attention"] = order_filter.attention
    if order_filter.terms:
        names.append("terms" if matching_ids is None else "matching_ids")
        values |= {"terms": _tsquery(order_filter.terms), "matching_ids": matching_ids}
    for name, bound in (("placed_from", order_filter.placed_from), ("placed_to", order_filter.placed_to)):
        if bound is not None:
            names.append(name)
            values[name] = bound
    return names, values


def _order(columns: LiteralString, *, newer: bool) -> SQL:
    """Latest first; towards newer pages the oldest first, so that LIMIT takes the rows nearest to the cursor."""
    return SQL(columns if newer else columns.replace(",", " DESC,") + " DESC")


def _tsquery(terms: Sequence[str]) -> str:
    return " & ".join(f"{_lexeme(term)}:*" for term in terms)


def _lexeme(term: str) -> str:
    """The term quoted for tsquery."""
    return "'" + term.replace("\\", "\\\\").replace("'", "''") + "'"
