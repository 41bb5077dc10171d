"""What the stages did, counted: lately, and in all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from psycopg.rows import dict_row, scalar_row
from psycopg.sql import SQL

from orderflow.query.store.snapshot_pool import fetch
from orderflow.query.store.statistics import LedgerCount, NotificationCount, Outcomes, ParkedCount, Rate

if TYPE_CHECKING:
    from orderflow.query.store.snapshot_pool import Connection, Values

MINUTES: Final = 15
"""The time span of the rates."""

RATES_OF_LEDGER: Final = """
SELECT kind IN ('accepted', 'rejected') OR (kind = 'held' AND first_version = 1) AS judged, kind, outcome,
       least(floor(extract(epoch FROM now() - recorded_at) / 60)::integer, %(minutes)s) AS minute,
       count(*) AS count
FROM ledger WHERE recorded_at > now() - make_interval(mins => %(minutes)s) GROUP BY 1, 2, 3, 4
"""
RATES_OF_NOTIFICATIONS: Final = """
SELECT state, least(floor(extract(epoch FROM now() - created_at) / 60)::integer, %(minutes)s) AS minute,
       count(*) AS count
FROM notifications WHERE created_at > now() - make_interval(mins => %(minutes)s) GROUP BY 1, 2
"""
RATES_OF_PARKED: Final = """
SELECT stage, least(floor(extract(epoch FROM now() - parked_at) / 60)::integer, %(minutes)s) AS minute,
       count(*) AS count
FROM parked WHERE parked_at > now() - make_interval(mins => %(minutes)s) GROUP BY 1, 2
"""

BY_STATUS: Final = "SELECT status, count(*) FROM orders GROUP BY status"
BY_PAYMENT: Final = "SELECT payment, count(*) FROM orders WHERE payment <> 'paid' GROUP BY payment"
LEDGER_COUNTS: Final = """
SELECT kind, outcome, revision, coalesce(validated_by, '') AS validated_by,
       kind IN ('accepted', 'rejected') OR (kind = 'held' AND first_version = 1) IS TRUE AS judged, count(*) AS count
FROM ledger GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
PARKED_COUNTS: Final = """
SELECT stage, code, state, revision, count(*) AS count, sum(times) AS times FROM parked GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
"""
NOTIFICATION_COUNTS: Final = """
SELECT channel, state, revision, count(*) AS count FROM notifications GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
WAITING_COUNT: Final = "SELECT count(*) FROM waiting"


def rates(connection: Connection) -> list[Rate]:
    """Per stage that writes to the database."""
    counts: dict[tuple[str, str], list[int]] = {}

    def add(stage: str, outcome: str, row: Values) -> None:
        minutes = counts.setdefault((stage, outcome), [0] * MINUTES)
        minutes[min(max(row["minute"], 0), MINUTES - 1)] += row["count"]

    cursor = connection.cursor(row_factory=dict_row)
    for row in cursor.execute(RATES_OF_LEDGER, {"minutes": MINUTES}).fetchall():
        if row["judged"]:
            add("validate", row["kind"], row)
        add("track", row["outcome"], row)
    for row in cursor.execute(RATES_OF_NOTIFICATIONS, {"minutes": MINUTES}).fetchall():
        add("notify", row["state"], row)
    for row in cursor.execute(RATES_OF_PARKED, {"minutes": MINUTES}).fetchall():
        add("shelve", f"from {row['stage']}", row)
    return [Rate(stage, outcome, tuple(minutes)) for (stage, outcome), minutes in sorted(counts.items())]


def outcomes(connection: Connection) -> Outcomes:
    """Reads whole tables, so callers keep the result for a while."""
    status: dict[str, int] = dict(connection.execute(BY_STATUS).fetchall())
    payment: dict[str, int] = dict(connection.execute(BY_PAYMENT).fetchall())
    # An index holds the orders that are not paid; the paid ones are the rest. Awaited orders are stored as unpaid.
    payment["paid"] = sum(status.values()) - sum(payment.values())
    payment["unpaid"] = payment.get("unpaid", 0) - status.get("awaited", 0)
    waiting = connection.cursor(row_factory=scalar_row).execute(WAITING_COUNT).fetchone()
    return Outcomes(
        status=status,
        payment={name: count for name, count in payment.items() if count},
        ledger=fetch(connection, LedgerCount, SQL(LEDGER_COUNTS)),
        parked=fetch(connection, ParkedCount, SQL(PARKED_COUNTS)),
        notifications=fetch(connection, NotificationCount, SQL(NOTIFICATION_COUNTS)),
        waiting=waiting or 0,
        counted_at=datetime.now(UTC),
    )
