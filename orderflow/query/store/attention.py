"""Orders and events that need attention, as the database records them; time limits are in overdue.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg.sql import SQL

from orderflow.query.store.orders import SUMMARY_COLUMNS
from orderflow.query.store.read_model import OrderSummary
from orderflow.query.store.snapshot_pool import fetch
from orderflow.query.store.statistics import Need

if TYPE_CHECKING:
    from orderflow.query.store.snapshot_pool import Connection

_URGENT_PER_NEED: Final = 4

URGENT: Final = SQL("""
SELECT {columns}
FROM unnest(ARRAY['held', 'awaited', 'refund_due', 'unpaid']) AS n (needs)
CROSS JOIN LATERAL (
    SELECT * FROM orders i
    WHERE i.needs = n.needs
      AND (i.needs <> 'awaited' OR EXISTS (SELECT FROM waiting w WHERE w.order_id = i.order_id))
    ORDER BY i.updated_at LIMIT %(limit)s
) o
ORDER BY o.updated_at
""").format(columns=SUMMARY_COLUMNS)

NEEDS: Final = """
SELECT o.needs AS name, count(*) AS count, min(o.updated_at) AS oldest FROM orders o
WHERE o.needs IS NOT NULL
  AND (o.needs <> 'awaited' OR EXISTS (SELECT FROM waiting w WHERE w.order_id = o.order_id))
GROUP BY o.needs
UNION ALL
SELECT 'notification_failed', count(*), min(created_at) FROM notifications WHERE state = 'failed'
UNION ALL
SELECT 'parked', count(*), min(parked_at) FROM parked WHERE state = 'open'
"""


def urgent(connection: Connection) -> list[OrderSummary]:
    """The orders that have needed attention the longest, a few per need, the longest first."""
    return fetch(connection, OrderSummary, URGENT, {"limit": _URGENT_PER_NEED})


def needs(connection: Connection) -> dict[str, Need]:
    """By name."""
    return {need.name: need for need in fetch(connection, Need, SQL(NEEDS))}
