"""Orders that exceed the shop's time limits, found through indexes that hold no order in a final status."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from psycopg.rows import scalar_row
from psycopg.sql import SQL

from orderflow.domain.deadlines import (
    SEQUENCE_GAP,
    WAITING_EXPIRES,
    Alert,
    GapLimits,
    OrderAge,
    StuckLimits,
    stuck_alerts,
    stuck_code,
)
from orderflow.query.store.read_model import Gap
from orderflow.query.store.snapshot_pool import fetch
from orderflow.query.store.statistics import Need

if TYPE_CHECKING:
    from datetime import datetime

    from orderflow.query.store.snapshot_pool import Connection, Values

ALL: Final = SQL("""
SELECT l.code, o.order_id, o.status_since AS since
FROM unnest(%(status_code)s::text[], %(status)s::text[], %(status_before)s::timestamptz[]) AS l (code, status, before)
JOIN orders o ON o.status = l.status AND o.status IN ('awaited', 'held', 'accepted', 'packed', 'shipped')
             AND o.status_since < l.before
WHERE o.status <> 'awaited' OR EXISTS (SELECT FROM waiting w WHERE w.order_id = o.order_id)
UNION ALL
SELECT l.code, o.order_id, o.payment_since
FROM unnest(%(payment_code)s::text[], %(payment)s::text[], %(payment_before)s::timestamptz[])
    AS l (code, payment, before)
JOIN orders o ON o.payment = l.payment AND o.status IN ('accepted', 'packed') AND o.payment_since < l.before
UNION ALL
SELECT 'waiting_expires', w.order_id, min(w.expires_at)
FROM waiting w WHERE w.expires_at < %(expires_before)s GROUP BY w.order_id
UNION ALL
SELECT 'sequence_gap', g.order_id, min(g.since)
FROM sequence_gaps g WHERE g.since < %(gap_before)s AND g.source <> ALL(%(ignored)s) GROUP BY g.order_id
""")
"""Every alert: its code, its order, and since when. For `waiting_expires`, since is the time of expiry."""
COUNTS: Final = SQL("""
SELECT a.code AS name, count(*) AS count, min(a.since) AS oldest FROM ({all}) a GROUP BY a.code
""").format(all=ALL)
ORDER_IDS: Final = SQL("""
SELECT a.order_id FROM ({all}) a WHERE a.code = ANY(%(codes)s)
GROUP BY a.order_id ORDER BY min(a.since) LIMIT %(limit)s
""").format(all=ALL)
GAPS: Final = SQL("""
SELECT n.source, n.before + 1 AS first, n.sequence - 1 AS last, g.since
FROM (SELECT d.*, lag(d.sequence) OVER (PARTITION BY d.source ORDER BY d.sequence) AS before
      FROM (SELECT DISTINCT source, sequence FROM ledger
            WHERE order_id = %(order_id)s AND sequence IS NOT NULL AND source <> ALL(%(ignored)s)) d) n
JOIN sequence_gaps g ON g.order_id = %(order_id)s AND g.source = n.source
WHERE n.sequence - n.before > 1 ORDER BY n.source, n.sequence LIMIT 50
""")
ORDER_AGE: Final = """
SELECT o.status, o.status_since, o.payment, o.payment_since, now() AS now,
       (SELECT min(w.expires_at) FROM waiting w WHERE w.order_id = o.order_id) AS expires_at
FROM orders o WHERE o.order_id = %(order_id)s
"""


class Alerts:
    """Compares the orders with the shop's limits. The time is the database's."""

    def __init__(self, stuck: StuckLimits, gaps: GapLimits) -> None:
        self._stuck = stuck
        self._gaps = gaps

    def counts(self, connection: Connection) -> list[Need]:
        """How many orders have each alert; alerts that no order has are left out."""
        return fetch(connection, Need, COUNTS, self._values(_now(connection)))

    def order_ids(self, connection: Connection, codes: list[str], limit: int) -> list[str]:
        """The orders that have any of these alerts, those with the oldest alert first."""
        values = self._values(_now(connection)) | {"codes": codes, "limit": limit}
        return connection.cursor(row_factory=scalar_row).execute(ORDER_IDS, values).fetchall()

    def gaps(self, connection: Connection, order_id: str) -> list[Gap]:
        values = {"order_id": order_id, "ignored": sorted(self._gaps.ignored_sources)}
        return fetch(connection, Gap, GAPS, values)

    def of_order(self, connection: Connection, order_id: str, gaps: list[Gap]) -> list[Alert]:
        row = connection.execute(ORDER_AGE, {"order_id": order_id}).fetchone()
        if row is None:
            return []
        age, now, expires_at = OrderAge(*row[:4]), row[4], row[5]
        alerts = list(stuck_alerts(self._stuck, age, now))
        if age.status == "awaited" and expires_at is None:
            alerts.clear()
        hours_left = self._stuck.waiting_left
        if hours_left and expires_at is not None and expires_at < now + timedelta(hours=hours_left):
            alerts.append(Alert(WAITING_EXPIRES, expires_at, hours_left))
        since = min((gap.since for gap in gaps), default=None)
        if since is not None and since < now - timedelta(hours=self._gaps.hours):
            alerts.append(Alert(SEQUENCE_GAP, since, self._gaps.hours))
        return alerts

    def _values(self, now: datetime) -> Values:
        by_status, by_payment = self._stuck.hours_by_status(), self._stuck.hours_by_payment()
        hours_left = self._stuck.waiting_left
        return {
            "status_code": [stuck_code(status) for status in by_status],
            "status": list(by_status),
            "status_before": [now - timedelta(hours=hours) for hours in by_status.values()],
            "payment_code": [stuck_code(payment) for payment in by_payment],
            "payment": list(by_payment),
            "payment_before": [now - timedelta(hours=hours) for hours in by_payment.values()],
            "expires_before": now + timedelta(hours=hours_left) if hours_left else None,
            "gap_before": now - timedelta(hours=self._gaps.hours),
            "ignored": sorted(self._gaps.ignored_sources),
        }


def _now(connection: Connection) -> datetime:
    now: datetime = connection.cursor(row_factory=scalar_row).execute("SELECT now()").fetchone()  # type: ignore[assignment]
    return now
