"""Counts of outcomes per revision, as PostgreSQL has them: the evidence that a canary release is judged by.

An outcome counts for the revision that produced it. If a delivery fails at one revision and succeeds at another after
a retry, only the second revision has an outcome here; the failure (a 5xx response) is visible in the HTTP metrics.
Both revisions are counted since the canary's first activity, so that the counts cover the same hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row
from psycopg.sql import SQL

from orderflow.domain.release_analysis import Count
from orderflow.messaging import topics
from orderflow.query.store.orders import SUMMARY_COLUMNS
from orderflow.query.store.read_model import OrderSummary
from orderflow.query.store.snapshot_pool import fetch
from orderflow.query.store.statistics import Evidence

if TYPE_CHECKING:
    from typing import LiteralString

    from orderflow.query.store.snapshot_pool import Connection

_VALIDATE: Final = """
WITH activity AS (
    SELECT validated_by AS revision, recorded_at AS at, kind = 'rejected' AS rejected, false AS parked,
           kind IN ('accepted', 'rejected') OR (kind = 'held' AND first_version = 1) AS judged
    FROM ledger WHERE recorded_at > now() - make_interval(hours => %(hours)s) AND validated_by = ANY(%(both)s)
    UNION ALL
    SELECT revision, parked_at, false, true, false
    FROM parked WHERE parked_at > now() - make_interval(hours => %(hours)s) AND stage = 'validate'
                  AND revision = ANY(%(both)s)
)
SELECT revision, (SELECT min(at) FROM activity WHERE revision = %(canary)s) AS since,
       count(*) FILTER (WHERE rejected) AS rejected_bad, count(*) FILTER (WHERE judged) AS rejected_total,
       count(*) FILTER (WHERE parked) AS parked_bad, count(*) AS parked_total
FROM activity WHERE at >= (SELECT min(at) FROM activity WHERE revision = %(canary)s) GROUP BY revision
"""
_TRACK: Final = """
WITH activity AS (
    SELECT revision, recorded_at AS at, outcome
    FROM ledger WHERE recorded_at > now() - make_interval(hours => %(hours)s) AND revision = ANY(%(both)s)
)
SELECT revision, (SELECT min(at) FROM activity WHERE revision = %(canary)s) AS since,
       count(*) FILTER (WHERE outcome = 'refused') AS refused_bad, count(*) AS refused_total,
       count(*) FILTER (WHERE outcome = 'parked') AS parked_bad, count(*) AS parked_total
FROM activity WHERE at >= (SELECT min(at) FROM activity WHERE revision = %(canary)s) GROUP BY revision
"""
_NOTIFY: Final = """
WITH activity AS (
    SELECT revision, created_at AS at, state = 'failed' AS failed, false AS parked
    FROM notifications
    WHERE created_at > now() - make_interval(hours => %(hours)s) AND revision = ANY(%(both)s)
      AND state IN ('sent', 'failed')
    UNION ALL
    SELECT revision, parked_at, false, true
    FROM parked WHERE parked_at > now() - make_interval(hours => %(hours)s) AND stage = 'notify'
                  AND revision = ANY(%(both)s)
)
SELECT revision, (SELECT min(at) FROM activity WHERE revision = %(canary)s) AS since,
       count(*) FILTER (WHERE failed) AS failed_bad, count(*) FILTER (WHERE NOT parked) AS failed_total,
       count(*) FILTER (WHERE parked) AS parked_bad, count(*) AS parked_total
FROM activity WHERE at >= (SELECT min(at) FROM activity WHERE revision = %(canary)s) GROUP BY revision
"""
_ACTIVITY: Final[dict[str, LiteralString]] = {
    "validate": """
    SELECT validated_by AS revision FROM ledger
    WHERE recorded_at > now() - make_interval(secs => %(seconds)s) AND validated_by = ANY(%(both)s)
    """,
    "track": """
    SELECT revision FROM ledger
    WHERE recorded_at > now() - make_interval(secs => %(seconds)s) AND revision = ANY(%(both)s)
    """,
    "notify": """
    SELECT revision FROM notifications
    WHERE created_at > now() - make_interval(secs => %(seconds)s) AND revision = ANY(%(both)s)
    """,
}
_ACTIVITY_COUNTS: Final = """
WITH activity AS ({activity}
    UNION ALL
    SELECT revision FROM parked
    WHERE parked_at > now() - make_interval(secs => %(seconds)s) AND stage = %(stage)s AND revision = ANY(%(both)s)
)
SELECT revision, count(*) FROM activity GROUP BY revision
"""
_HANDLED: Final[dict[str, LiteralString]] = {
    "validate": """
    SELECT order_id, max(recorded_at) AS at FROM ledger
    WHERE validated_by = %(revision)s AND recorded_at > now() - make_interval(hours => %(hours)s) GROUP BY order_id
    """,
    "track": """
    SELECT order_id, max(recorded_at) AS at FROM ledger
    WHERE revision = %(revision)s AND recorded_at > now() - make_interval(hours => %(hours)s) GROUP BY order_id
    """,
    "notify": """
    SELECT order_id, max(created_at) AS at FROM notifications
    WHERE revision = %(revision)s AND created_at > now() - make_interval(hours => %(hours)s) GROUP BY order_id
    """,
}
_ORDERS_HANDLED: Final = """
SELECT {columns}
FROM ({handled} ORDER BY at DESC LIMIT %(limit)s) handled JOIN orders o USING (order_id) ORDER BY handled.at DESC
"""
_MISSING: Final = """
SELECT started_at > now() - make_interval(mins => %(minutes)s) AS recent,
       sum((report -> 'topics' -> %(topic)s ->> 'missing')::bigint) AS bad,
       sum(coalesce(report -> 'topics' -> %(topic)s ->> 'judged',
                    report -> 'topics' -> %(topic)s ->> 'read', '0')::bigint) AS total
FROM audit_runs
WHERE finished_at IS NOT NULL AND started_at > now() - make_interval(hours => %(hours)s)
  AND report -> 'topics' -> %(topic)s IS NOT NULL
GROUP BY recent
"""
INPUT_TOPICS: Final = {"validate": topics.INBOX, "track": topics.EVENTS, "notify": topics.STATUS}
STAGES: Final[dict[str, tuple[LiteralString, tuple[str, ...]]]] = {
    "validate": (_VALIDATE, ("rejected", "parked")),
    "track": (_TRACK, ("refused", "parked")),
    "notify": (_NOTIFY, ("failed", "parked")),
}
"""The stages that decide about orders: the statement of each, and its bad outcomes."""


def outcomes(connection: Connection, stage: str, canary: str, stable: str, hours: int) -> Evidence:
    """A revision without activity has counts of zero."""
    statement, names = STAGES[stage]
    values = {"canary": canary, "both": [canary, stable], "hours": hours}
    rows = connection.cursor(row_factory=dict_row).execute(statement, values).fetchall()
    by_revision = {row["revision"]: row for row in rows}
    since = next((row["since"] for row in rows), None)
    counts = [
        (name, _count(by_revision.get(canary), name), _count(by_revision.get(stable), name)) for name in names
    ]
    return Evidence(since, counts)


def activity(connection: Connection, stage: str, canary: str, stable: str, seconds: int) -> tuple[int, int]:
    """The number of rows that each revision wrote in the last seconds: (canary's, stable's)."""
    statement = SQL(_ACTIVITY_COUNTS).format(activity=SQL(_ACTIVITY[stage]))
    values = {"stage": stage, "both": [canary, stable], "seconds": seconds}
    counts: dict[str, int] = dict(connection.execute(statement, values).fetchall())
    return counts.get(canary, 0), counts.get(stable, 0)


def orders_handled_by(
    connection: Connection, stage: str, revision: str, hours: int, limit: int
) -> list[OrderSummary]:
    """The orders that a revision has handled, latest first."""
    statement = SQL(_ORDERS_HANDLED).format(columns=SUMMARY_COLUMNS, handled=SQL(_HANDLED[stage]))
    return fetch(connection, OrderSummary, statement, {"revision": revision, "hours": hours, "limit": limit})


def missing_events(connection: Connection, stage: str, minutes: int, hours: int) -> Evidence:
    """The events of a stage's input topic that the audit found missing: in the last minutes, and in the hours before.

    A revision that takes events and does nothing leaves no rows of its own; only the audit finds that. The release
    before this one wrote `read` where this one writes `judged`.
    """
    values = {"topic": INPUT_TOPICS[stage], "minutes": minutes, "hours": hours}
    rows = connection.cursor(row_factory=dict_row).execute(_MISSING, values).fetchall()
    counts = {row["recent"]: Count(int(row["bad"]), int(max(row["bad"], row["total"]))) for row in rows}
    return Evidence(None, [("missing", counts.get(True, Count(0, 0)), counts.get(False, Count(0, 0)))])


def _count(row: dict[str, Any] | None, outcome: str) -> Count:
    return Count(row[f"{outcome}_bad"], row[f"{outcome}_total"]) if row is not None else Count(0, 0)
