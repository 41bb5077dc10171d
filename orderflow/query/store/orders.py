"""PostgreSQL as the console reads it: read-only, one snapshot for one answer, and no statement for ever."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.sql import SQL, Composed
from psycopg_pool import ConnectionPool, PoolTimeout

from orderflow.domain.deadlines import Gaps, Stuck
from orderflow.errors import UnavailableError
from orderflow.query.store import filters, release_evidence
from orderflow.query.store.overdue import Alerts
from orderflow.query.store.read_model import (
    ActionDone,
    Early,
    Entry,
    Evidence,
    LedgerCount,
    Need,
    Notification,
    NotificationCount,
    OrderRecord,
    OrderSummary,
    Outcomes,
    ParkedCount,
    ParkedEvent,
    ParkedSummary,
    Rate,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import LiteralString

    from orderflow.query.store.filters import Listing, OrderFilter, ParkedFilter
    from orderflow.settings import QuerySettings

T = TypeVar("T")
Values = dict[str, Any]
Connection = psycopg.Connection[tuple[Any, ...]]

MINUTES: Final = 15
"""How far back rates go."""

MOST_FOUND: Final = 20_000
"""Up to how many orders that a search finds are looked up and sorted. Of more than that, the latest are met soon
on the way through all orders, the latest first."""

_MOST_OF_AN_ORDER: Final = 500
_URGENT_OF_EACH: Final = 4
_COUNTING_SECONDS: Final = 30

ORDERS: Final = """
SELECT o.order_id, o.status, o.payment, o.currency, o.total, o.captured, o.refunded, o.version, o.needs,
       o.document #>> '{{customer,name}}' AS customer, json_array_length(o.document -> 'lines') AS lines,
       o.placed_at, o.updated_at
FROM (SELECT o.* FROM orders o {joined} WHERE {conditions} ORDER BY {order} LIMIT %(most)s) o
ORDER BY {again}
"""
"""A page of orders. The inner query finds them by indexes, only then their documents are opened."""

FIND: Final = "SELECT order_id FROM order_search WHERE terms @@ %(words)s::tsquery LIMIT %(most)s"
NEVER_READ_IT_ALL: Final = "SET LOCAL enable_seqscan = off"
"""For FIND. The planner takes every beginning of a word for one in two hundred orders, which is wrong both for
`a` and for a whole e-mail address, so it is not asked."""
READ_AS_PLANNED: Final = "SET LOCAL enable_seqscan = on"

ORDER_CONDITIONS: Final[dict[str, LiteralString]] = {
    "status": "o.status = %(status)s",
    "payment": "o.payment = %(payment)s AND o.status <> 'awaited'",
    "paid": "o.payment = 'paid'",
    "needs": "o.needs = %(attention)s",
    "awaited": ("o.needs = 'awaited' AND EXISTS (SELECT FROM waiting w WHERE w.order_id = o.order_id)"),
    "notification_failed": (
        "o.order_id IN (SELECT n.order_id FROM notifications n WHERE n.state = 'failed')"
    ),
    "alerted": "o.order_id = ANY(%(alerted)s)",
    "found": "o.order_id = ANY(%(found)s)",
    "words": "s.terms @@ %(words)s::tsquery",
    "placed_from": "s.placed_at >= %(placed_from)s",
    "placed_to": "s.placed_at < %(placed_to)s",
    "older": "(o.updated_at, o.order_id) < (%(at)s, %(id)s)",
    "newer": "(o.updated_at, o.order_id) > (%(at)s, %(id)s)",
    "placed_before": "(s.placed_at, s.order_id) < (%(at)s, %(id)s)",
    "placed_after": "(s.placed_at, s.order_id) > (%(at)s, %(id)s)",
}

URGENT: Final = """
SELECT u.order_id, u.status, u.payment, u.currency, u.total, u.captured, u.refunded, u.version, u.needs,
       u.document #>> '{customer,name}' AS customer, json_array_length(u.document -> 'lines') AS lines,
       u.placed_at, u.updated_at
FROM unnest(ARRAY['held', 'awaited', 'refund_due', 'unpaid']) AS n (needs)
CROSS JOIN LATERAL (
    SELECT * FROM orders o
    WHERE o.needs = n.needs
      AND (o.needs <> 'awaited' OR EXISTS (SELECT FROM waiting w WHERE w.order_id = o.order_id))
    ORDER BY o.updated_at LIMIT %(most)s
) u
ORDER BY u.updated_at
"""
"""The orders that have needed a hand the longest, a few of each kind."""

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

ORDER: Final = """
SELECT o.order_id, o.status, o.payment, o.currency, o.total, o.captured, o.refunded, o.version, o.needs,
       o.document #>> '{customer,name}' AS customer, json_array_length(o.document -> 'lines') AS lines,
       o.placed_at, o.updated_at
FROM orders o WHERE o.order_id = %(order_id)s
"""
ORDER_DOCUMENT: Final = "SELECT resumes, document FROM orders WHERE order_id = %(order_id)s"
HISTORY: Final = """
SELECT version, source, id, kind, status, payment, captured, refunded, detail, revision, occurred_at, recorded_at
FROM history WHERE order_id = %(order_id)s ORDER BY version DESC LIMIT %(most)s
"""
LEDGER: Final = """
SELECT source, id, kind, outcome, reason, revision, first_version, last_version, occurred_at, recorded_at
FROM ledger WHERE order_id = %(order_id)s ORDER BY recorded_at DESC, source, id LIMIT %(most)s
"""
WAITING: Final = """
SELECT source, id, kind, occurred_at, expires_at
FROM waiting WHERE order_id = %(order_id)s ORDER BY occurred_at DESC, source DESC, id DESC LIMIT %(most)s
"""
NOTIFICATIONS: Final = """
SELECT event_id, channel, recipient, kind, state, attempts, error, revision, created_at, finished_at
FROM notifications WHERE order_id = %(order_id)s ORDER BY created_at DESC, channel, recipient LIMIT %(most)s
"""

ACTIONS: Final = """
SELECT id, request, kind, order_id, parked_id, by, reason, detail, outcome, refusal, occurred_at, recorded_at
FROM operator_actions WHERE order_id = %(order_id)s ORDER BY recorded_at DESC, id LIMIT %(most)s
"""

ORDER_MARK: Final = """
SELECT concat_ws(' ',
    (SELECT o.lock FROM orders o WHERE o.order_id = %(order_id)s),
    (SELECT count(*) FROM waiting w WHERE w.order_id = %(order_id)s),
    (SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE n.state = 'sent'), count(n.finished_at), sum(n.attempts))
     FROM notifications n WHERE n.order_id = %(order_id)s),
    (SELECT concat_ws(' ', count(*), sum(p.times), count(*) FILTER (WHERE p.state = 'open'))
     FROM parked p WHERE p.order_id = %(order_id)s),
    (SELECT count(*) FROM operator_actions a WHERE a.order_id = %(order_id)s))
"""
"""A text that differs whenever an order's page would."""

PARKED: Final = """
SELECT p.id, p.order_id, p.stage, p.code, p.reasons, p.event_type, p.source, p.event_id,
       p.attributes ->> 'originsource' AS origin_source, p.attributes ->> 'originid' AS origin_id,
       p.topic, p.partition, p."offset", p.http_code, p.revision, p.state, p.times, p.replays, p.parked_at, p.seen_at
FROM parked p WHERE {conditions} ORDER BY {order} LIMIT %(most)s
"""
PARKED_LATEST_FIRST: Final = "p.parked_at DESC, p.id DESC"
PARKED_OLDEST_FIRST: Final = "p.parked_at, p.id"
PARKED_CONDITIONS: Final[dict[str, LiteralString]] = {
    "id": "p.id = %(id)s",
    "state": "p.state = %(state)s",
    "stage": "p.stage = %(stage)s",
    "code": "p.code = %(code)s",
    "order": "p.order_id = %(order)s",
    "older": "(p.parked_at, p.id) < (%(at)s, %(row)s)",
    "newer": "(p.parked_at, p.id) > (%(at)s, %(row)s)",
}
PARKED_CONTENT: Final = "SELECT attributes, payload FROM parked WHERE id = %(id)s"
PARKED_NAMES: Final = "SELECT DISTINCT stage, code FROM parked ORDER BY stage, code LIMIT 200"

RATES: Final = """
SELECT kind IN ('accepted', 'rejected') OR (kind = 'held' AND first_version = 1) AS judged, kind, outcome,
       least(floor(extract(epoch FROM now() - recorded_at) / 60)::integer, %(minutes)s) AS minute,
       count(*) AS count
FROM ledger WHERE recorded_at > now() - make_interval(mins => %(minutes)s) GROUP BY 1, 2, 3, 4
"""
RATES_OF_NOTIFY: Final = """
SELECT state, least(floor(extract(epoch FROM now() - created_at) / 60)::integer, %(minutes)s) AS minute,
       count(*) AS count
FROM notifications WHERE created_at > now() - make_interval(mins => %(minutes)s) GROUP BY 1, 2
"""
RATES_OF_PARK: Final = """
SELECT stage, least(floor(extract(epoch FROM now() - parked_at) / 60)::integer, %(minutes)s) AS minute,
       count(*) AS count
FROM parked WHERE parked_at > now() - make_interval(mins => %(minutes)s) GROUP BY 1, 2
"""

BY_STATUS: Final = "SELECT status, count(*) FROM orders GROUP BY status"
BY_PAYMENT: Final = "SELECT payment, count(*) FROM orders WHERE payment <> 'paid' GROUP BY payment"
BY_OUTCOME: Final = """
SELECT kind, outcome, revision, coalesce(validated_by, '') AS validated_by,
       kind IN ('accepted', 'rejected') OR (kind = 'held' AND first_version = 1) IS TRUE AS judged, count(*) AS count
FROM ledger GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""
BY_PARKING: Final = """
SELECT stage, code, state, revision, count(*) AS count, sum(times) AS times FROM parked GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
"""
BY_NOTIFYING: Final = """
SELECT channel, state, revision, count(*) AS count FROM notifications GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
HOW_MANY_WAIT: Final = "SELECT count(*) FROM waiting"


class Reader:
    """Every method is one snapshot of the database.

    Raises UnavailableError where the database is away, or a statement takes longer than it may.
    """

    def __init__(
        self, settings: QuerySettings, alerts: Alerts | None = None, most_found: int = MOST_FOUND
    ) -> None:
        self._settings = settings
        self._alerts = alerts or Alerts(Stuck(), Gaps())
        self._most_found = most_found
        self._pool: ConnectionPool[Connection] | None = None
        self._opening = threading.Lock()

    def orders(self, wanted: OrderFilter) -> list[OrderSummary]:
        """The page that the filter asks for and, where more orders follow in that direction, one more."""
        with self._snapshot() as connection:
            found = self._found(connection, wanted.words) if wanted.words else None
            codes = filters.ALERTS.get(wanted.attention or "")
            alerted = self._alerts.orders(connection, list(codes), self._most_found) if codes else []
            statement, values = _order_query(wanted, found, alerted)
            return _rows(connection, OrderSummary, statement, values)

    def _found(self, connection: Connection, words: Sequence[str]) -> list[str] | None:
        """The ids of the orders that the words find, or None where that are very many."""
        connection.execute(NEVER_READ_IT_ALL)
        values = {"words": _tsquery(words), "most": self._most_found + 1}
        found = connection.cursor(row_factory=scalar_row).execute(FIND, values).fetchall()
        connection.execute(READ_AS_PLANNED)
        return found if len(found) <= self._most_found else None

    def urgent(self) -> list[OrderSummary]:
        """The orders that have needed a hand the longest, the longest first."""
        with self._snapshot() as connection:
            return _rows(connection, OrderSummary, SQL(URGENT), {"most": _URGENT_OF_EACH})

    def needs(self) -> dict[str, Need]:
        with self._snapshot() as connection:
            return {need.name: need for need in _rows(connection, Need, SQL(NEEDS))}

    def alerts(self) -> dict[str, Need]:
        """What is over the shop's limits, by code."""
        with self._snapshot() as connection:
            return {alert.name: alert for alert in self._alerts.counts(connection)}

    def has_order(self, order_id: str) -> bool:
        with self._snapshot() as connection:
            return bool(_rows(connection, OrderSummary, SQL(ORDER), {"order_id": order_id}))

    def order(self, order_id: str) -> OrderRecord | None:
        """All of one order, each list in the order in which it came about, the latest where there are very many."""
        values = {"order_id": order_id, "most": _MOST_OF_AN_ORDER}
        conditions, more = _parked_conditions({"order": order_id})
        parked = SQL(PARKED).format(conditions=conditions, order=SQL(PARKED_LATEST_FIRST))
        with self._snapshot() as connection:
            summaries = _rows(connection, OrderSummary, SQL(ORDER), values)
            if not summaries:
                return None
            head = connection.cursor(row_factory=dict_row).execute(ORDER_DOCUMENT, values).fetchone() or {}
            gaps = self._alerts.gaps(connection, order_id)
            return OrderRecord(
                summary=summaries[0],
                resumes=head["resumes"],
                document=head["document"],
                history=_rows(connection, Step, SQL(HISTORY), values)[::-1],
                ledger=_rows(connection, Entry, SQL(LEDGER), values)[::-1],
                waiting=_rows(connection, Early, SQL(WAITING), values)[::-1],
                notifications=_rows(connection, Notification, SQL(NOTIFICATIONS), values)[::-1],
                parked=_rows(connection, ParkedSummary, parked, values | more)[::-1],
                actions=_rows(connection, ActionDone, SQL(ACTIONS), values)[::-1],
                alerts=self._alerts.of_order(connection, order_id, gaps),
                gaps=gaps,
            )

    def order_mark(self, order_id: str) -> str:
        """A text that differs whenever what order() gives does."""
        with self._snapshot() as connection:
            cursor = connection.cursor(row_factory=scalar_row)
            return str(cursor.execute(ORDER_MARK, {"order_id": order_id}).fetchone())

    def parked(self, wanted: ParkedFilter) -> list[ParkedSummary]:
        """As orders() does."""
        place = wanted.place
        given = {name: getattr(wanted, name) for name in ("state", "stage", "code", "order")}
        conditions, values = _parked_conditions(given, wanted)
        order = PARKED_OLDEST_FIRST if place is not None and place.newer else PARKED_LATEST_FIRST
        statement = SQL(PARKED).format(conditions=conditions, order=SQL(order))
        with self._snapshot() as connection:
            return _rows(connection, ParkedSummary, statement, values | {"most": wanted.limit + 1})

    def parked_event(self, parked_id: str) -> ParkedEvent | None:
        values = {"id": parked_id, "most": 1}
        statement = SQL(PARKED).format(
            conditions=SQL(PARKED_CONDITIONS["id"]), order=SQL(PARKED_LATEST_FIRST)
        )
        with self._snapshot() as connection:
            summaries = _rows(connection, ParkedSummary, statement, values)
            content = connection.cursor(row_factory=dict_row).execute(PARKED_CONTENT, values).fetchone()
            if not summaries or content is None:
                return None
            return ParkedEvent(summaries[0], content["attributes"], content["payload"])

    def parked_names(self) -> tuple[list[str], list[str]]:
        """The stages and the reasons' codes that there are."""
        with self._snapshot() as connection:
            pairs = connection.execute(PARKED_NAMES).fetchall()
        return sorted({stage for stage, _ in pairs}), sorted({code for _, code in pairs})

    def release(self, stage: str, canary: str, stable: str, hours: int) -> Evidence:
        """What became of orders at two revisions of a stage."""
        with self._snapshot() as connection:
            return release_evidence.evidence(connection, stage, canary, stable, hours)

    def traces(self, stage: str, canary: str, stable: str, seconds: int) -> tuple[int, int]:
        """How much each of two revisions of a stage left behind lately: the canary's, stable's."""
        with self._snapshot() as connection:
            return release_evidence.traces(connection, stage, canary, stable, seconds)

    def met(self, stage: str, revision: str, hours: int, most: int) -> list[OrderSummary]:
        """The orders that a revision of a stage had to do with lately."""
        with self._snapshot() as connection:
            return release_evidence.met(connection, stage, revision, hours, most)

    def audited(self, stage: str, minutes: int, hours: int) -> Evidence:
        """What the audit missed lately of a stage's events, against before."""
        with self._snapshot() as connection:
            return release_evidence.audited(connection, stage, minutes, hours)

    def rates(self) -> list[Rate]:
        """What each stage brought about lately, as far as it leaves a trace in the database."""
        counts: dict[tuple[str, str], list[int]] = {}

        def add(stage: str, outcome: str, row: Values) -> None:
            minutes = counts.setdefault((stage, outcome), [0] * MINUTES)
            minutes[min(max(row["minute"], 0), MINUTES - 1)] += row["count"]

        with self._snapshot() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            for row in cursor.execute(RATES, {"minutes": MINUTES}).fetchall():
                if row["judged"]:
                    add("validate", row["kind"], row)
                add("track", row["outcome"], row)
            for row in cursor.execute(RATES_OF_NOTIFY, {"minutes": MINUTES}).fetchall():
                add("notify", row["state"], row)
            for row in cursor.execute(RATES_OF_PARK, {"minutes": MINUTES}).fetchall():
                add("shelve", f"from {row['stage']}", row)
        return [Rate(stage, outcome, tuple(minutes)) for (stage, outcome), minutes in sorted(counts.items())]

    def outcomes(self) -> Outcomes:
        """Counts over whole tables, from indexes where there are any: not to be asked for at every request."""
        with self._snapshot(_COUNTING_SECONDS) as connection:
            status: dict[str, int] = dict(connection.execute(BY_STATUS).fetchall())
            payment: dict[str, int] = dict(connection.execute(BY_PAYMENT).fetchall())
            # Every order is unpaid until it is placed; the paid ones are what the index of the others leaves.
            payment["paid"] = sum(status.values()) - sum(payment.values())
            payment["unpaid"] = payment.get("unpaid", 0) - status.get("awaited", 0)
            waiting = connection.cursor(row_factory=scalar_row).execute(HOW_MANY_WAIT).fetchone()
            return Outcomes(
                status=status,
                payment={name: count for name, count in payment.items() if count},
                ledger=_rows(connection, LedgerCount, SQL(BY_OUTCOME)),
                parked=_rows(connection, ParkedCount, SQL(BY_PARKING)),
                notifications=_rows(connection, NotificationCount, SQL(BY_NOTIFYING)),
                waiting=waiting or 0,
                counted_at=datetime.now(UTC),
            )

    @contextmanager
    def _snapshot(self, seconds: float | None = None) -> Iterator[Connection]:
        pool = self._pool or self._open()
        try:
            with pool.connection() as connection:
                if seconds is not None:
                    connection.execute(_time_limit(seconds, "SET LOCAL"))
                yield connection
        except psycopg.errors.QueryCanceled:
            raise UnavailableError("this took the database too long; ask for less") from None
        except (PoolTimeout, psycopg.OperationalError, psycopg.InternalError) as error:
            raise UnavailableError(f"the database is not available: {type(error).__name__}") from error

    def _open(self) -> ConnectionPool[Connection]:
        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._settings.database_url.get_secret_value(),
                    connection_class=psycopg.Connection[tuple[Any, ...]],
                    kwargs={"application_name": "orderflow-query"},
                    configure=self._configure,
                    min_size=1,
                    max_size=self._settings.database_pool_size,
                    timeout=self._settings.database_wait_seconds,
                    reconnect_timeout=self._settings.database_wait_seconds,
                    open=True,
                )
        return self._pool

    def _configure(self, connection: Connection) -> None:
        connection.execute(_time_limit(self._settings.statement_seconds))
        connection.commit()
        connection.read_only = True
        connection.isolation_level = IsolationLevel.REPEATABLE_READ

    def close(self) -> None:
        with self._opening:
            if self._pool is not None:
                self._pool.close()
                self._pool = None


def _time_limit(seconds: float, how: LiteralString = "SET") -> Composed:
    return SQL("{how} statement_timeout = {milliseconds}").format(
        how=SQL(how), milliseconds=int(seconds * 1000)
    )


def _rows(
    connection: Connection, kind: type[T], statement: SQL | Composed, values: Values | None = None
) -> list[T]:
    return connection.cursor(row_factory=class_row(kind)).execute(statement, values).fetchall()


def _order_query(wanted: OrderFilter, found: list[str] | None, alerted: list[str]) -> tuple[Composed, Values]:
    names, values = _conditions(wanted, found, alerted)
    newer = wanted.place is not None and wanted.place.newer
    if wanted.place is not None:
        by_placing = ("placed_before", "placed_after")
        names.append((by_placing if wanted.by_placing else ("older", "newer"))[newer])
        values |= {"at": wanted.place.at, "id": wanted.place.id}
    joins = wanted.by_placing or "words" in names
    statement = SQL(ORDERS).format(
        joined=SQL("JOIN order_search s ON s.order_id = o.order_id" if joins else ""),
        conditions=_all_of([ORDER_CONDITIONS[name] for name in names]),
        order=_sorting(
            "s.placed_at, s.order_id" if wanted.by_placing else "o.updated_at, o.order_id", newer=newer
        ),
        again=_sorting(
            "o.placed_at, o.order_id" if wanted.by_placing else "o.updated_at, o.order_id", newer=newer
        ),
    )
    return statement, values


def _conditions(wanted: OrderFilter, found: list[str] | None, alerted: list[str]) -> tuple[list[str], Values]:
    """What is asked for but the place in the list: the conditions' names, and their values."""
    values: Values = {"most": wanted.limit + 1, "alerted": alerted}
    names: list[str] = []
    if wanted.status is not None:
        names.append("status")
        values["status"] = str(wanted.status)
    if wanted.payment is not None:
        # Written out where it is the common case, so that nobody looks for it in the index of the others.
        names.append("payment" if wanted.payment != "paid" else "paid")
        values["payment"] = str(wanted.payment)
    if wanted.attention in filters.ALERTS:
        names.append("alerted")
    elif wanted.attention is not None:
        names.append(wanted.attention if wanted.attention in ORDER_CONDITIONS else "needs")
        values["attention"] = wanted.attention
    if wanted.words:
        names.append("words" if found is None else "found")
        values |= {"words": _tsquery(wanted.words), "found": found}
    for name, bound in (("placed_from", wanted.placed_from), ("placed_to", wanted.placed_to)):
        if bound is not None:
            names.append(name)
            values[name] = bound
    return names, values


def _sorting(columns: LiteralString, *, newer: bool) -> SQL:
    """Latest first; towards newer pages the nearest first, which is the other way round."""
    return SQL(columns if newer else columns.replace(",", " DESC,") + " DESC")


def _tsquery(words: Sequence[str]) -> str:
    return " & ".join(f"{_lexeme(word)}:*" for word in words)


def _lexeme(word: str) -> str:
    """A word as tsquery quotes it."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _parked_conditions(given: dict[str, str], wanted: Listing | None = None) -> tuple[Composed, Values]:
    names = [name for name, value in given.items() if value]
    values: Values = dict(given)
    if wanted is not None and wanted.place is not None:
        names.append("newer" if wanted.place.newer else "older")
        values |= {"at": wanted.place.at, "row": wanted.place.id}
    return _all_of([PARKED_CONDITIONS[name] for name in names]), values


def _all_of(conditions: Sequence[LiteralString]) -> Composed:
    return SQL(" AND ").join([SQL(condition) for condition in conditions or ("true",)])
