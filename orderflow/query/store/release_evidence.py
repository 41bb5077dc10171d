"""Counts per revision of what became of orders, as PostgreSQL knows them: what a canary release is judged by.

An outcome is counted for the revision that brought it about: a delivery that failed at
one revision and succeeded at another after a retry leaves its mark here for the latter
only. What a revision answers to such a delivery (a 5xx) is the HTTP metrics' to find.
Both are counted from the canary's first trace on, so that they saw the same hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row, dict_row
from psycopg.sql import SQL

from orderflow.domain.release_analysis import Count
from orderflow.messaging import topics
from orderflow.query.store.read_model import Evidence, OrderSummary

if TYPE_CHECKING:
    from typing import LiteralString

    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

_VALIDATE: Final = """
WITH seen AS (
    SELECT validated_by AS revision, recorded_at AS at, kind = 'rejected' AS rejected, false AS parked,
           kind IN ('accepted', 'rejected') OR (kind = 'held' AND first_version = 1) AS judged
    FROM ledger WHERE recorded_at > now() - make_interval(hours => %(hours)s) AND validated_by = ANY(%(both)s)
    UNION ALL
    SELECT revision, parked_at, false, true, false
    FROM parked WHERE parked_at > now() - make_interval(hours => %(hours)s) AND stage = 'validate'
                  AND revision = ANY(%(both)s)
)
SELECT revision, (SELECT min(at) FROM seen WHERE revision = %(canary)s) AS since,
       count(*) FILTER (WHERE rejected) AS rejected_bad, count(*) FILTER (WHERE judged) AS rejected_total,
       count(*) FILTER (WHERE parked) AS parked_bad, count(*) AS parked_total
FROM seen WHERE at >= (SELECT min(at) FROM seen WHERE revision = %(canary)s) GROUP BY revision
"""
_TRACK: Final = """
WITH seen AS (
    SELECT revision, recorded_at AS at, outcome
    FROM ledger WHERE recorded_at > now() - make_interval(hours => %(hours)s) AND revision = ANY(%(both)s)
)
SELECT revision, (SELECT min(at) FROM seen WHERE revision = %(canary)s) AS since,
       count(*) FILTER (WHERE outcome = 'refused') AS refused_bad, count(*) AS refused_total,
       count(*) FILTER (WHERE outcome = 'parked') AS parked_bad, count(*) AS parked_total
FROM seen WHERE at >= (SELECT min(at) FROM seen WHERE revision = %(canary)s) GROUP BY revision
"""
_NOTIFY: Final = """
WITH seen AS (
    SELECT revision, created_at AS at, state = 'failed' AS failed, false AS parked
    FROM notifications
    WHERE created_at > now() - make_interval(hours => %(hours)s) AND revision = ANY(%(both)s)
      AND state IN ('sent', 'failed')
    UNION ALL
    SELECT revision, parked_at, false, true
    FROM parked WHERE parked_at > now() - make_interval(hours => %(hours)s) AND stage = 'notify'
                  AND revision = ANY(%(both)s)
)
SELECT revision, (SELECT min(at) FROM seen WHERE revision = %(canary)s) AS since,
       count(*) FILTER (WHERE failed) AS failed_bad, count(*) FILTER (WHERE NOT parked) AS failed_total,
       count(*) FILTER (WHERE parked) AS parked_bad, count(*) AS parked_total
FROM seen WHERE at >= (SELECT min(at) FROM seen WHERE revision = %(canary)s) GROUP BY revision
"""
_TRACES: Final[dict[str, LiteralString]] = {
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
_TRACES_OF: Final = """
WITH traces AS ({traces}
    UNION ALL
    SELECT revision FROM parked
    WHERE parked_at > now() - make_interval(secs => %(seconds)s) AND stage = %(stage)s AND revision = ANY(%(both)s)
)
SELECT revision, count(*) FROM traces GROUP BY revision
"""
_MET: Final[dict[str, LiteralString]] = {
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
_ORDERS_MET: Final = """
SELECT o.order_id, o.status, o.payment, o.currency, o.total, o.captured, o.refunded, o.version, o.needs,
       o.document #>> '{{customer,name}}' AS customer, json_array_length(o.document -> 'lines') AS lines,
       o.placed_at, o.updated_at
FROM ({met} ORDER BY at DESC LIMIT %(most)s) met JOIN orders o USING (order_id) ORDER BY met.at DESC
"""
_AUDIT: Final = """
SELECT started_at > now() - make_interval(mins => %(minutes)s) AS lately,
       sum((report -> 'topics' -> %(topic)s ->> 'missing')::bigint) AS bad,
       sum((report -> 'topics' -> %(topic)s ->> 'read')::bigint) AS total
FROM audit_runs
WHERE finished_at IS NOT NULL AND started_at > now() - make_interval(hours => %(hours)s)
  AND report -> 'topics' -> %(topic)s IS NOT NULL
GROUP BY lately
"""
TOPICS: Final = {"validate": topics.INBOX, "track": topics.EVENTS, "notify": topics.STATUS}
"""What a stage takes its events from: what is missing of those, it may have lost."""
STAGES: Final[dict[str, tuple[LiteralString, tuple[str, ...]]]] = {
    "validate": (_VALIDATE, ("rejected", "parked")),
    "track": (_TRACK, ("refused", "parked")),
    "notify": (_NOTIFY, ("failed", "parked")),
}


def evidence(connection: Connection, stage: str, canary: str, stable: str, hours: int) -> Evidence:
    """A revision that has left no trace has counts of nothing; so has everything before the canary's first."""
    statement, outcomes = STAGES[stage]
    values = {"canary": canary, "both": [canary, stable], "hours": hours}
    rows = connection.cursor(row_factory=dict_row).execute(statement, values).fetchall()
    of = {row["revision"]: row for row in rows}
    since = next((row["since"] for row in rows), None)
    counted = [(name, _count(of.get(canary), name), _count(of.get(stable), name)) for name in outcomes]
    return Evidence(since, counted)


def traces(connection: Connection, stage: str, canary: str, stable: str, seconds: int) -> tuple[int, int]:
    """How many each of the two revisions left in the last seconds: (canary's, stable's)."""
    statement = SQL(_TRACES_OF).format(traces=SQL(_TRACES[stage]))
    values = {"stage": stage, "both": [canary, stable], "seconds": seconds}
    of: dict[str, int] = dict(connection.execute(statement, values).fetchall())
    return of.get(canary, 0), of.get(stable, 0)


def met(connection: Connection, stage: str, revision: str, hours: int, most: int) -> list[OrderSummary]:
    """The orders that a revision had to do with, the latest first."""
    statement = SQL(_ORDERS_MET).format(met=SQL(_MET[stage]))
    values = {"revision": revision, "hours": hours, "most": most}
    return connection.cursor(row_factory=class_row(OrderSummary)).execute(statement, values).fetchall()


def audited(connection: Connection, stage: str, minutes: int, hours: int) -> Evidence:
    """What the audit missed of a stage's events in the last minutes, against the hours before.

    A revision that takes events and does nothing leaves no trace of its own; only the audit finds that.
    """
    values = {"topic": TOPICS[stage], "minutes": minutes, "hours": hours}
    rows = connection.cursor(row_factory=dict_row).execute(_AUDIT, values).fetchall()
    counts = {row["lately"]: Count(int(row["bad"]), int(max(row["bad"], row["total"]))) for row in rows}
    return Evidence(None, [("missing", counts.get(True, Count(0, 0)), counts.get(False, Count(0, 0)))])


def _count(row: dict[str, Any] | None, outcome: str) -> Count:
    return Count(row[f"{outcome}_bad"], row[f"{outcome}_total"]) if row is not None else Count(0, 0)
