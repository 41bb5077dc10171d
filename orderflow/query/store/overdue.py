"""What has stood longer than the shop allows, found by indexes that hold only what is not at its end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row, scalar_row
from psycopg.sql import SQL

from orderflow.domain import deadlines
from orderflow.domain.deadlines import SEQUENCE_GAP, WAITING_EXPIRES, Alert, Gaps, Standing, Stuck, code_of
from orderflow.query.store.read_model import Gap, Need

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

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
"""Every alert: its code, its order, and since when (of what will expire: when)."""
COUNTS: Final = SQL("""
SELECT a.code AS name, count(*) AS count, min(a.since) AS oldest FROM ({all}) a GROUP BY a.code
""").format(all=ALL)
ORDERS: Final = SQL("""
SELECT a.order_id FROM ({all}) a WHERE a.code = ANY(%(codes)s)
GROUP BY a.order_id ORDER BY min(a.since) LIMIT %(most)s
""").format(all=ALL)
GAPS: Final = """
SELECT n.source, n.before + 1 AS first, n.sequence - 1 AS last, g.since
FROM (SELECT d.*, lag(d.sequence) OVER (PARTITION BY d.source ORDER BY d.sequence) AS before
      FROM (SELECT DISTINCT source, sequence FROM ledger
            WHERE order_id = %(order_id)s AND sequence IS NOT NULL AND source <> ALL(%(ignored)s)) d) n
JOIN sequence_gaps g ON g.order_id = %(order_id)s AND g.source = n.source
WHERE n.sequence - n.before > 1 ORDER BY n.source, n.sequence LIMIT 50
"""
STANDING: Final = """
SELECT o.status, o.status_since, o.payment, o.payment_since, now() AS now,
       (SELECT min(w.expires_at) FROM waiting w WHERE w.order_id = o.order_id) AS expires_at
FROM orders o WHERE o.order_id = %(order_id)s
"""


class Alerts:
    """The shop's limits, held against the database. The clock is the database's own."""

    def __init__(self, stuck: Stuck, gaps: Gaps) -> None:
        self._stuck = stuck
        self._gaps = gaps

    def counts(self, connection: Connection) -> list[Need]:
        """How many orders each alert is about, those without any left out."""
        cursor = connection.cursor(row_factory=class_row(Need))
        return cursor.execute(COUNTS, self._values(_now(connection))).fetchall()

    def orders(self, connection: Connection, codes: list[str], most: int) -> list[str]:
        """The orders that any of these alerts is about, at most so many: those that have stood longest."""
        values = self._values(_now(connection)) | {"codes": codes, "most": most}
        return connection.cursor(row_factory=scalar_row).execute(ORDERS, values).fetchall()

    def gaps(self, connection: Connection, order_id: str) -> list[Gap]:
        values = {"order_id": order_id, "ignored": sorted(self._gaps.ignored_sources)}
        return connection.cursor(row_factory=class_row(Gap)).execute(GAPS, values).fetchall()

    def of_order(self, connection: Connection, order_id: str, gaps: list[Gap]) -> list[Alert]:
        row = connection.execute(STANDING, {"order_id": order_id}).fetchone()
        if row is None:
            return []
        standing, now, expires_at = Standing(*row[:4]), row[4], row[5]
        found = list(deadlines.stuck(self._stuck, standing, now))
        if standing.status == "awaited" and expires_at is None:
            found.clear()
        left = self._stuck.waiting_left
        if left and expires_at is not None and expires_at < now + timedelta(hours=left):
            found.append(Alert(WAITING_EXPIRES, expires_at, left))
        since = min((gap.since for gap in gaps), default=None)
        if since is not None and since < now - timedelta(hours=self._gaps.hours):
            found.append(Alert(SEQUENCE_GAP, since, self._gaps.hours))
        return found

    def _values(self, now: datetime) -> dict[str, Any]:
        by_status, by_payment = self._stuck.of_status(), self._stuck.of_payment()
        left = self._stuck.waiting_left
        return {
            "status_code": [code_of(name) for name in by_status],
            "status": list(by_status),
            "status_before": [now - timedelta(hours=hours) for hours in by_status.values()],
            "payment_code": [code_of(name) for name in by_payment],
            "payment": list(by_payment),
            "payment_before": [now - timedelta(hours=hours) for hours in by_payment.values()],
            "expires_before": now + timedelta(hours=left) if left else None,
            "gap_before": now - timedelta(hours=self._gaps.hours),
            "ignored": sorted(self._gaps.ignored_sources),
        }


def _now(connection: Connection) -> datetime:
    found: datetime = connection.cursor(row_factory=scalar_row).execute("SELECT now()").fetchone()  # type: ignore[assignment]
    return found
