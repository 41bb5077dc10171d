"""One order with all that is recorded about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg.rows import dict_row, scalar_row
from psycopg.sql import SQL

from orderflow.query.store import parked
from orderflow.query.store.action_results import DETAIL
from orderflow.query.store.read_model import (
    ActionDone,
    LedgerEntry,
    Notification,
    OrderChange,
    OrderRecord,
    OrderSummary,
    WaitingEvent,
)
from orderflow.query.store.snapshot_pool import fetch

if TYPE_CHECKING:
    from orderflow.query.store.overdue import Alerts
    from orderflow.query.store.snapshot_pool import Connection

_MAX_ROWS: Final = 500
"""Of each list of an order."""

SUMMARY_COLUMNS: Final = SQL(
    """o.order_id, o.status, o.payment, o.currency, o.total, o.captured, o.refunded, o.version, o.needs,
       o.document #>> '{customer,name}' AS customer, json_array_length(o.document -> 'lines') AS lines,
       o.placed_at, o.updated_at"""
)
"""An OrderSummary from the table orders, whose alias is o."""

ORDER: Final = SQL("""
SELECT {columns} FROM orders o WHERE o.order_id = %(order_id)s
""").format(columns=SUMMARY_COLUMNS)
ORDER_DOCUMENT: Final = "SELECT resumes, document FROM orders WHERE order_id = %(order_id)s"
HISTORY: Final = """
SELECT version, source, id, kind, status, payment, captured, refunded, detail, revision, occurred_at, recorded_at
FROM history WHERE order_id = %(order_id)s ORDER BY version DESC LIMIT %(limit)s
"""
LEDGER: Final = """
SELECT source, id, kind, outcome, reason, revision, first_version, last_version, occurred_at, recorded_at
FROM ledger WHERE order_id = %(order_id)s ORDER BY recorded_at DESC, source, id LIMIT %(limit)s
"""
WAITING: Final = """
SELECT source, id, kind, occurred_at, expires_at
FROM waiting WHERE order_id = %(order_id)s ORDER BY occurred_at DESC, source DESC, id DESC LIMIT %(limit)s
"""
NOTIFICATIONS: Final = """
SELECT event_id, channel, recipient, kind, state, attempts, error, revision, created_at, finished_at
FROM notifications WHERE order_id = %(order_id)s ORDER BY created_at DESC, channel, recipient LIMIT %(limit)s
"""
ACTIONS: Final = f"""
SELECT id, request, kind, order_id, parked_id, by, reason, {DETAIL}, outcome, refusal, occurred_at, recorded_at
FROM operator_actions a WHERE order_id = %(order_id)s ORDER BY recorded_at DESC, id LIMIT %(limit)s
"""  # noqa: S608 - both parts are constants
FINGERPRINT: Final = """
SELECT concat_ws(' ',
    (SELECT o.lock FROM orders o WHERE o.order_id = %(order_id)s),
    (SELECT count(*) FROM waiting w WHERE w.order_id = %(order_id)s),
    (SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE n.state = 'sent'), count(n.finished_at), sum(n.attempts))
     FROM notifications n WHERE n.order_id = %(order_id)s),
    (SELECT concat_ws(' ', count(*), sum(p.times), count(*) FILTER (WHERE p.state = 'open'))
     FROM parked p WHERE p.order_id = %(order_id)s),
    (SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE a.outcome = 'sending'))
     FROM operator_actions a WHERE a.order_id = %(order_id)s))
"""


def exists(connection: Connection, order_id: str) -> bool:
    return bool(fetch(connection, OrderSummary, ORDER, {"order_id": order_id}))


def record(connection: Connection, order_id: str, alerts: Alerts) -> OrderRecord | None:
    """Each list is in the order of its events; of a very long list it has the latest rows."""
    values = {"order_id": order_id, "limit": _MAX_ROWS}
    summaries = fetch(connection, OrderSummary, ORDER, values)
    if not summaries:
        return None
    document = connection.cursor(row_factory=dict_row).execute(ORDER_DOCUMENT, values).fetchone() or {}
    gaps = alerts.gaps(connection, order_id)
    return OrderRecord(
        summary=summaries[0],
        resumes=document["resumes"],
        document=document["document"],
        history=fetch(connection, OrderChange, SQL(HISTORY), values)[::-1],
        ledger=fetch(connection, LedgerEntry, SQL(LEDGER), values)[::-1],
        waiting=fetch(connection, WaitingEvent, SQL(WAITING), values)[::-1],
        notifications=fetch(connection, Notification, SQL(NOTIFICATIONS), values)[::-1],
        parked=parked.latest_of_order(connection, order_id, _MAX_ROWS)[::-1],
        actions=fetch(connection, ActionDone, SQL(ACTIONS), values)[::-1],
        alerts=alerts.of_order(connection, order_id, gaps),
        gaps=gaps,
    )


def fingerprint(connection: Connection, order_id: str) -> str:
    """A text that changes whenever the order's record changes, at a fraction of the cost of reading the record."""
    cursor = connection.cursor(row_factory=scalar_row)
    return str(cursor.execute(FINGERPRINT, {"order_id": order_id}).fetchone())
