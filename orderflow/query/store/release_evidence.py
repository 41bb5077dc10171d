"""Counts of outcomes per revision, as PostgreSQL has them: the evidence that a canary release is judged by.

An outcome counts for the revision that handled the event and for the revisions that made the event: what track parks
counts for track, for the validate that made the verdict and for the intake that took the order. If a delivery fails at
one revision and succeeds at another after a retry, only the second revision has an outcome here; the failure (a 5xx
response) is visible in the HTTP metrics.

Both revisions are counted in the same intervals of time, from the time at which the canary got its share. A row counts
at the time at which it was recorded, so that an interval that is over does not change any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from orderflow.domain.release_analysis import Count, Interval
from orderflow.query.store.orders import SUMMARY_COLUMNS
from orderflow.query.store.read_model import OrderSummary
from orderflow.query.store.snapshot_pool import fetch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import LiteralString

    from psycopg.sql import Composed

    from orderflow.query.store.snapshot_pool import Connection

INTERVAL_SECONDS: Final = 30
SETTLE_SECONDS: Final = 2
"""An interval counts so long after its end: until then a transaction may still commit a row of it."""
SHORT_INTERVALS: Final = 120
"""So many intervals have the first length. After that, the length doubles with the age of the release, so that a
release of a week has some hundred intervals."""

_PARKED: Final = SQL("""FROM parked
WHERE parked_at >= %(since)s - interval '1 day' AND coalesce(recorded_at, parked_at) >= %(since)s""")
_DELIVERIES_OF_INTAKE: Final = """
SELECT taken_by AS revision, recorded_at AS at, true AS active,
       CASE WHEN kind IN ('accepted', 'rejected') OR kind = 'held' AND first_version = 1 THEN kind = 'rejected' END
           AS rejected,
       outcome = 'refused' AS refused, false AS parked
FROM ledger
WHERE recorded_at >= %(since)s AND taken_by = ANY(%(both)s) AND outcome NOT IN ('waiting', 'parked')
UNION ALL
SELECT attributes ->> 'takenby', coalesce(recorded_at, parked_at), true, NULL, NULL, true
{parked}
  AND code <> 'waited_too_long' AND stage IN ('validate', 'track') AND attributes ->> 'takenby' = ANY(%(both)s)
"""
_DELIVERIES_OF_VALIDATE: Final = """
SELECT validated_by AS revision, recorded_at AS at, true AS active,
       CASE WHEN kind IN ('accepted', 'rejected') OR kind = 'held' AND first_version = 1 THEN kind = 'rejected' END
           AS rejected,
       outcome = 'refused' AS refused, false AS parked
FROM ledger
WHERE recorded_at >= %(since)s AND validated_by = ANY(%(both)s) AND outcome NOT IN ('waiting', 'parked')
UNION ALL
SELECT CASE stage WHEN 'validate' THEN revision ELSE attributes ->> 'validatedby' END,
       coalesce(recorded_at, parked_at), true, NULL, NULL, true
{parked}
  AND code <> 'waited_too_long'
  AND (stage = 'validate' AND revision = ANY(%(both)s)
       OR stage = 'track' AND attributes ->> 'validatedby' = ANY(%(both)s))
"""
_DELIVERIES_OF_TRACK: Final = """
SELECT revision, recorded_at AS at, true AS active, outcome = 'refused' AS refused, false AS parked,
       CASE WHEN outcome = 'applied' THEN false END AS parked_by_notify, NULL::boolean AS failed
FROM ledger
WHERE recorded_at >= %(since)s AND revision = ANY(%(both)s) AND outcome NOT IN ('waiting', 'parked')
UNION ALL
SELECT revision, coalesce(recorded_at, parked_at), true, NULL, true, NULL, NULL
{parked}
  AND code <> 'waited_too_long' AND stage = 'track' AND revision = ANY(%(both)s)
UNION ALL
SELECT attributes ->> 'trackedby', coalesce(recorded_at, parked_at), false, NULL, NULL, true, NULL
{parked}
  AND stage = 'notify' AND attributes ->> 'trackedby' = ANY(%(both)s)
UNION ALL
SELECT tracked_by, max(finished_at), false, NULL, NULL, NULL, bool_or(state = 'failed')
FROM notifications
WHERE created_at >= %(since)s - interval '1 hour' AND finished_at >= %(since)s AND state IN ('sent', 'failed')
  AND tracked_by = ANY(%(both)s)
GROUP BY event_id, tracked_by
"""
_DELIVERIES_OF_NOTIFY: Final = """
SELECT revision, max(finished_at) AS at, true AS active, bool_or(state = 'failed') AS failed,
       CASE WHEN NOT bool_or(state = 'failed') THEN false END AS parked
FROM notifications
WHERE created_at >= %(since)s - interval '1 hour' AND finished_at >= %(since)s AND state IN ('sent', 'failed')
  AND revision = ANY(%(both)s)
GROUP BY event_id, revision
UNION ALL
SELECT revision, coalesce(recorded_at, parked_at), true, NULL, true
{parked}
  AND stage = 'notify' AND revision = ANY(%(both)s)
"""
_DELIVERIES_OF_SHELVE: Final = """
SELECT shelved_by AS revision, recorded_at AS at, true AS active, false AS parked
FROM parked
WHERE parked_at >= %(since)s - interval '1 day' AND recorded_at >= %(since)s AND shelved_by = ANY(%(both)s)
UNION ALL
SELECT revision, coalesce(recorded_at, parked_at), true, true
{parked}
  AND stage = 'shelve' AND revision = ANY(%(both)s)
"""
_DELIVERIES_OF_PARK: Final = """
SELECT revision, coalesce(recorded_at, parked_at) AS at, true AS active,
       partition IS NULL OR stage = 'unknown' AS without_place
{parked}
  AND revision = ANY(%(both)s)
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    """deliveries: a statement with one row for each delivery and what came of it. Each outcome is a column: true where
    the delivery ended badly, false where not, null where the outcome does not apply. active: the row shows that the
    revision handled a delivery. later: the outcomes of events that have a row of their own for their bad end, beside
    the row of the delivery that made them. seldom: the outcomes that a healthy shop may have no event of; nobody waits
    for enough of them."""

    deliveries: LiteralString
    outcomes: tuple[str, ...]
    later: frozenset[str] = frozenset()
    seldom: frozenset[str] = frozenset()

    @property
    def statement(self) -> Composed:
        return SQL(self.deliveries).format(parked=_PARKED)


_EVIDENCE: Final = {
    "intake": _Stage(_DELIVERIES_OF_INTAKE, ("rejected", "refused", "parked")),
    "validate": _Stage(_DELIVERIES_OF_VALIDATE, ("rejected", "refused", "parked")),
    "track": _Stage(
        _DELIVERIES_OF_TRACK,
        ("refused", "parked", "parked_by_notify", "failed"),
        later=frozenset({"parked_by_notify"}),
        seldom=frozenset({"failed"}),
    ),
    "notify": _Stage(_DELIVERIES_OF_NOTIFY, ("failed", "parked")),
    "shelve": _Stage(_DELIVERIES_OF_SHELVE, ("parked",), seldom=frozenset({"parked"})),
    "park": _Stage(_DELIVERIES_OF_PARK, ("without_place",), seldom=frozenset({"without_place"})),
}
STAGES: Final = (*_EVIDENCE, "query")
"""The stages that can be judged. What query does leaves nothing that tells its revisions apart."""

_FIRST: Final = "SELECT min(at) FROM ({deliveries}) deliveries WHERE revision = %(canary)s AND active"
_COUNTS: Final = """
SELECT revision, date_bin(make_interval(secs => %(seconds)s), at, %(since)s) AS start, {counts}
FROM ({deliveries}) deliveries GROUP BY revision, start ORDER BY start
"""
_ACTIVITY: Final = "SELECT revision, count(*) FROM ({deliveries}) deliveries WHERE active GROUP BY revision"
_HANDLED: Final = {
    "intake": ("ledger", "taken_by", "recorded_at"),
    "validate": ("ledger", "validated_by", "recorded_at"),
    "track": ("ledger", "revision", "recorded_at"),
    "notify": ("notifications", "revision", "created_at"),
    "shelve": ("parked", "shelved_by", "recorded_at"),
    "park": ("parked", "revision", "parked_at"),
}
"""Where a stage's revision leaves its name: the table, the column of the name, the column of the time."""
_ORDERS_HANDLED: Final = """
SELECT {columns}
FROM (SELECT order_id, max({at}) AS at FROM {table} WHERE {name} = %(revision)s AND {at} >= %(since)s
      GROUP BY order_id ORDER BY at DESC LIMIT %(limit)s) handled
JOIN orders o USING (order_id) ORDER BY handled.at DESC
"""


@dataclass(frozen=True, slots=True)
class ReleaseEvidence:
    """outcomes: the intervals of each, from the earliest to the latest. since: None where the canary has no activity
    and nobody said since when it counts. now: the database's time."""

    since: datetime | None
    now: datetime
    outcomes: list[tuple[str, list[Interval]]]


def evidence(
    connection: Connection,
    stage: str,
    canary: str,
    stable: str,
    since: datetime | None,
    *,
    hours: int,
    seconds: int = INTERVAL_SECONDS,
) -> ReleaseEvidence:
    """since: from when both revisions are counted; None stands for the canary's first activity in the last hours.
    seconds: the length of the first intervals."""
    now: datetime = _one(connection, "SELECT now()", {})
    if stage not in _EVIDENCE:
        return ReleaseEvidence(since, now, [])
    statement = _EVIDENCE[stage].statement
    values = {"canary": canary, "both": [canary, stable], "seconds": seconds}
    if since is None:
        earliest = values | {"since": now - timedelta(hours=hours)}
        since = _one(connection, SQL(_FIRST).format(deliveries=statement), earliest)
    names = _EVIDENCE[stage].outcomes
    if since is None:
        return ReleaseEvidence(None, now, [(name, []) for name in names])
    columns = SQL(", ").join(
        SQL("count(*) FILTER (WHERE {name}) AS {bad}, count({name}) AS {total}").format(
            name=Identifier(name), bad=Identifier(f"{name}_bad"), total=Identifier(f"{name}_total")
        )
        for name in names
    )
    counts = SQL(_COUNTS).format(counts=columns, deliveries=statement)
    rows = connection.cursor(row_factory=dict_row).execute(counts, values | {"since": since}).fetchall()
    over = _closed(rows, since, now, seconds)
    later = _EVIDENCE[stage].later
    return ReleaseEvidence(
        since, now, [(name, _intervals(over, name, canary, later=name in later)) for name in names]
    )


def is_seldom(stage: str, outcome: str) -> bool:
    """Whether a healthy shop may have no event with this outcome."""
    return outcome in _EVIDENCE[stage].seldom


def only_seldom(stage: str) -> bool:
    """Whether a healthy shop may leave nothing that tells the stage's revisions apart."""
    return stage not in _EVIDENCE or _EVIDENCE[stage].seldom.issuperset(_EVIDENCE[stage].outcomes)


def activity(
    connection: Connection, stage: str, canary: str, stable: str, since: datetime
) -> tuple[int, int]:
    """The number of deliveries that each revision shows since then: (canary's, stable's)."""
    if stage not in _EVIDENCE:
        return 0, 0
    statement = SQL(_ACTIVITY).format(deliveries=_EVIDENCE[stage].statement)
    counts: dict[str, int] = dict(
        connection.execute(statement, {"both": [canary, stable], "since": since}).fetchall()
    )
    return counts.get(canary, 0), counts.get(stable, 0)


def orders_handled_by(
    connection: Connection, stage: str, revision: str, since: datetime, limit: int
) -> list[OrderSummary]:
    """The orders that a revision has handled, latest first."""
    if stage not in _HANDLED:
        return []
    table, name, at = map(Identifier, _HANDLED[stage])
    statement = SQL(_ORDERS_HANDLED).format(columns=SUMMARY_COLUMNS, table=table, name=name, at=at)
    return fetch(connection, OrderSummary, statement, {"revision": revision, "since": since, "limit": limit})


def interval_of(number: int) -> tuple[int, int]:
    """The interval that has the short interval with this number: its first short interval, and the one after it."""
    if number < SHORT_INTERVALS:
        return number, number + 1
    octave = (number // SHORT_INTERVALS).bit_length() - 1
    width = 2 ** (octave + 1)
    first = number - number % width
    return first, first + width


def _closed(
    rows: Iterable[dict[str, Any]], since: datetime, now: datetime, seconds: int
) -> dict[int, list[dict[str, Any]]]:
    """The rows of the intervals that are over, by the number of the interval's first short interval."""
    length, settled = timedelta(seconds=seconds), now - timedelta(seconds=SETTLE_SECONDS)
    over: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        first, end = interval_of((row["start"] - since) // length)
        if since + end * length <= settled:
            over.setdefault(first, []).append(row)
    return over


def _intervals(
    over: dict[int, list[dict[str, Any]]], name: str, canary: str, *, later: bool
) -> list[Interval]:
    return [
        Interval(
            _count((row for row in rows if row["revision"] == canary), name, later=later),
            _count((row for row in rows if row["revision"] != canary), name, later=later),
        )
        for _, rows in sorted(over.items())
    ]


def _count(rows: Iterable[dict[str, Any]], name: str, *, later: bool) -> Count:
    pairs = [(row[f"{name}_bad"], row[f"{name}_total"]) for row in rows]
    bad, total = sum(bad for bad, _ in pairs), sum(total for _, total in pairs)
    return Count(bad, max(bad, total - bad) if later else total)


def _one(connection: Connection, statement: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401 - any column
    row = connection.execute(statement, values).fetchone()
    return row[0] if row is not None else None
