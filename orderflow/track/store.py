"""Track's SQL: the ledger, the orders, their history and the events that wait."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from orderflow.actions import known_replay
from orderflow.domain.lifecycle import OrderState, Outcome, Payment, Status
from orderflow.errors import Reason
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.position import Decided
from orderflow.messaging.status_event import Change, change_from_row
from orderflow.track.decision import WAITED_TOO_LONG, Arrival, LedgerEntry, Plan, Snapshot, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from orderflow.adapters.postgres.pool import Database, Row
    from orderflow.domain.rules import Waiting

READ: Final = f"""
SELECT e.n, l.kind, l.digest, l.outcome, l.reason, l.first_version, l.last_version, l.occurred_at,
       l.content_digest, l.replays, l.former_digests,
       o.lock, o.status, o.payment, o.resumes, o.currency, o.total, o.captured, o.refunded, o.version,
       o.digest AS order_digest, o.content_digest AS order_content_digest, o.document::text AS document, o.decided,
       w.waiting_count, h.changes, {known_replay.IS_KNOWN} AS replay_known
FROM unnest(%(source)s::text[], %(id)s::text[], %(order_id)s::text[], %(replay)s::text[])
     WITH ORDINALITY AS e (source, id, order_id, replay, n)
LEFT JOIN ledger l ON l.source = e.source AND l.id = e.id
LEFT JOIN orders o ON o.order_id = e.order_id
LEFT JOIN LATERAL (
    SELECT count(*) AS waiting_count
    FROM (SELECT FROM waiting w WHERE w.order_id = e.order_id LIMIT %(most_waiting)s) w
) w ON o.order_id IS NOT NULL
LEFT JOIN LATERAL (
    SELECT json_agg(h ORDER BY h.version) AS changes FROM history h
    WHERE h.order_id = e.order_id AND h.version BETWEEN l.first_version AND l.last_version
) h ON l.first_version IS NOT NULL
ORDER BY e.n
"""  # noqa: S608 - a constant condition
"""What the database holds of a batch of arrivals: one row for each, in their order."""

READ_WAITING: Final = """
SELECT order_id, source, id, attributes, data FROM waiting WHERE order_id = ANY (%(order_id)s)
"""

WRITE: Final = """
WITH written AS (
    SELECT * FROM json_to_recordset(%(orders)s) AS r (
        order_id text, lock integer, changed boolean, status text, payment text, resumes text, currency text,
        total bigint, captured bigint, refunded bigint, version integer, digest text, content_digest text,
        document text, placed_at timestamptz, decided json)
), recorded AS (
    SELECT * FROM json_to_recordset(%(ledger)s) AS r (
        source text, id text, order_id text, kind text, digest text, outcome text, reason json,
        first_version integer, last_version integer, occurred_at timestamptz, sequence bigint,
        validated_by text, taken_by text, was text, content_digest text, replays text[], former_digests text[])
), placed AS (
    INSERT INTO orders (order_id, lock, status, payment, resumes, currency, total, captured, refunded,
                        version, digest, content_digest, document, placed_at, decided)
    SELECT order_id, 1, status, payment, resumes, currency, total, captured, refunded,
           version, digest, content_digest, document::json, placed_at, decided
    FROM written WHERE lock = 0 AND changed
    ON CONFLICT DO NOTHING RETURNING 1
), awaited AS (
    INSERT INTO orders (order_id, lock, decided)
    -- A row that was removed and comes again has another lock, so that no reader of the first one writes to the second.
    SELECT order_id, 1 + (random() * 1000000000)::integer, decided FROM written WHERE lock = 0 AND NOT changed
    ON CONFLICT DO NOTHING RETURNING 1
), moved AS (
    UPDATE orders o
    SET lock = o.lock + 1, status = w.status, payment = w.payment, resumes = w.resumes, currency = w.currency,
        status_since = CASE WHEN o.status = w.status THEN o.status_since ELSE now() END,
        payment_since = CASE WHEN o.payment = w.payment AND o.placed_at IS NOT NULL THEN o.payment_since ELSE now() END,
        total = w.total, captured = w.captured, refunded = w.refunded, version = w.version, digest = w.digest,
        content_digest = w.content_digest, decided = w.decided,
        document = CASE WHEN o.placed_at IS NULL THEN w.document::json ELSE o.document END,
        placed_at = coalesce(o.placed_at, w.placed_at), updated_at = now()
    FROM written w WHERE w.lock > 0 AND w.changed AND o.order_id = w.order_id AND o.lock = w.lock RETURNING 1
), touched AS (
    UPDATE orders o SET lock = o.lock + 1, decided = w.decided
    FROM written w WHERE w.lock > 0 AND NOT w.changed AND o.order_id = w.order_id AND o.lock = w.lock RETURNING 1
), entered AS (
    INSERT INTO ledger (source, id, order_id, kind, digest, outcome, reason, revision,
                        first_version, last_version, occurred_at, sequence, validated_by, taken_by, content_digest,
                        replays)
    SELECT source, id, order_id, kind, digest, outcome, reason, %(revision)s, first_version, last_version,
           occurred_at, sequence, validated_by, taken_by, content_digest, replays
    FROM recorded WHERE was IS NULL
    ON CONFLICT DO NOTHING RETURNING 1
), settled AS (
    UPDATE ledger l
    SET outcome = r.outcome, reason = r.reason, revision = %(revision)s,
        first_version = r.first_version, last_version = r.last_version, recorded_at = now()
    FROM recorded r WHERE r.was = 'waiting' AND l.source = r.source AND l.id = r.id AND l.outcome = 'waiting'
    RETURNING 1
), replayed AS (
    UPDATE ledger l
    SET order_id = r.order_id, kind = r.kind, digest = r.digest, outcome = r.outcome, reason = r.reason,
        revision = %(revision)s, first_version = r.first_version, last_version = r.last_version,
        occurred_at = r.occurred_at, sequence = r.sequence, validated_by = r.validated_by, taken_by = r.taken_by,
        recorded_at = now(), content_digest = r.content_digest, replays = r.replays, former_digests = r.former_digests
    FROM recorded r WHERE r.was IN ('parked', 'refused') AND l.source = r.source AND l.id = r.id
                      AND l.outcome = r.was AND l.outcome IN ('parked', 'refused')
                      AND coalesce(cardinality(l.replays), 0) = cardinality(r.replays) - 1 RETURNING 1
), released AS (
    DELETE FROM waiting w USING recorded r WHERE r.was = 'waiting' AND w.source = r.source AND w.id = r.id RETURNING 1
), early AS (
    INSERT INTO waiting (source, id, order_id, kind, attributes, data, digest, occurred_at, expires_at)
    SELECT source, id, order_id, kind, attributes, data, digest, occurred_at, expires_at
    FROM json_to_recordset(%(waiting)s) AS r (
        source text, id text, order_id text, kind text, attributes json, data json, digest text,
        occurred_at timestamptz, expires_at timestamptz)
), changed AS (
    INSERT INTO history (order_id, version, source, id, kind, status, payment, captured, refunded, detail,
                         revision, occurred_at)
    SELECT order_id, version, source, id, kind, status, payment, captured, refunded, detail,
           %(revision)s, occurred_at
    FROM json_to_recordset(%(history)s) AS r (
        order_id text, version integer, source text, id text, kind text, status text, payment text,
        captured bigint, refunded bigint, detail json, occurred_at timestamptz)
    RETURNING serial
)
SELECT CASE WHEN (SELECT count(*) FROM placed) + (SELECT count(*) FROM awaited) + (SELECT count(*) FROM moved)
               + (SELECT count(*) FROM touched) <> (SELECT count(*) FROM written)
              OR (SELECT count(*) FROM entered) + (SELECT count(*) FROM settled) + (SELECT count(*) FROM replayed)
                 <> (SELECT count(*) FROM recorded)
              OR (SELECT count(*) FROM released) <> (SELECT count(*) FROM recorded WHERE was = 'waiting')
            THEN orderflow_conflict('order or event changed since it was read') END,
       (SELECT array_agg(serial) FROM changed) AS serials
"""
"""Writes a batch of plans, at most one for each order: all of them, or none where a row has changed. Returns the
serials of the new history rows."""

EXPIRED: Final = """
SELECT w.source, w.id, w.attributes, w.data FROM waiting w JOIN ledger l ON l.source = w.source AND l.id = w.id
WHERE w.expires_at < now() ORDER BY w.expires_at LIMIT %(limit)s FOR UPDATE OF l, w SKIP LOCKED
"""
"""Locks both rows at once or skips them. WRITE locks the ledger's row first. A transaction that locked the waiting
row first and then waited for the ledger's row would deadlock with it, and PostgreSQL ends a deadlock only after a
second."""

EXPIRE: Final = """
WITH gone AS (
    DELETE FROM waiting w USING unnest(%(source)s::text[], %(id)s::text[]) AS e (source, id)
    WHERE w.source = e.source AND w.id = e.id RETURNING w.source, w.id
)
UPDATE ledger l SET outcome = 'parked', reason = %(reason)s, revision = %(revision)s, recorded_at = now()
FROM gone WHERE l.source = gone.source AND l.id = gone.id
"""

UNPLACED: Final = """
SELECT o.order_id, o.lock FROM orders o
WHERE o.status = 'awaited' AND o.updated_at < now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM waiting w WHERE w.order_id = o.order_id)
LIMIT %(limit)s
"""
"""Orders that were never placed, and that nothing waits for any more."""

REMOVE_UNPLACED: Final = """
WITH removed AS (
    DELETE FROM orders o USING unnest(%(order_id)s::text[], %(lock)s::int[]) AS e (order_id, lock)
    WHERE o.order_id = e.order_id AND o.lock = e.lock AND o.status = 'awaited'
      AND NOT EXISTS (SELECT FROM waiting w WHERE w.order_id = o.order_id)
    RETURNING o.order_id
), forgotten AS (
    DELETE FROM order_search s USING removed r WHERE s.order_id = r.order_id
)
SELECT count(*) AS removed FROM removed
"""
"""A statement of its own after UNPLACED: whoever begins to wait in between changes the lock, or is seen."""


class OrderStore:
    """The ledger, the orders, their history and the waiting events, as track needs them."""

    def __init__(self, database: Database, *, revision: str, waiting: Waiting) -> None:
        self._database = database
        self._revision = revision
        self._waiting = waiting

    async def read(self, arrivals: Sequence[Arrival]) -> list[Snapshot]:
        """One snapshot for each arrival, in their order."""
        async with self._database.connection() as connection:
            rows = await (
                await connection.execute(READ, read_values(arrivals, self._waiting.per_order))
            ).fetchall()
        return snapshots(arrivals, rows, self._waiting.per_order)

    async def read_waiting(self, order_ids: Sequence[str]) -> dict[str, tuple[Arrival, ...]]:
        """The events that wait for each order. WRITE fails where they have changed since read()."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(READ_WAITING, {"order_id": list(order_ids)})).fetchall()
        return arrivals_by_order(rows)

    async def write(self, plans: Sequence[Plan]) -> list[int]:
        """Commits all plans or none. Returns the serials of the changes.

        Raises ConflictError where an order or event changed since it was read.
        """
        values = write_values(plans, self._revision, self._waiting, datetime.now(UTC))
        async with self._database.connection() as connection:
            row = await (await connection.execute(WRITE, values)).fetchone()
        return (row and row["serials"]) or []

    @asynccontextmanager
    async def expired(self, limit: int) -> AsyncIterator[list[CloudEvent]]:
        """The events that waited too long. They leave `waiting` when the block ends without an error."""
        async with self._database.connection() as connection, connection.transaction():
            rows = await (await connection.execute(EXPIRED, {"limit": limit})).fetchall()
            yield [_cloudevent(row) for row in rows]
            if rows:
                keys = {"source": [row["source"] for row in rows], "id": [row["id"] for row in rows]}
                reason = json.dumps(_reason_row(WAITED_TOO_LONG))
                await connection.execute(EXPIRE, keys | {"reason": reason, "revision": self._revision})

    async def remove_unplaced(self, limit: int) -> int:
        """Removes the rows of orders that were never placed, a day after the last event for them came. Returns how
        many. Their events stay in the ledger."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(UNPLACED, {"limit": limit})).fetchall()
            if not rows:
                return 0
            keys = {name: [row[name] for row in rows] for name in ("order_id", "lock")}
            row = await (await connection.execute(REMOVE_UNPLACED, keys)).fetchone()
        return row["removed"] if row else 0


def read_values(arrivals: Sequence[Arrival], per_order: int) -> Row:
    """The parameters of READ. per_order is how many events may wait for one order."""
    return {
        "most_waiting": per_order,
        "source": [arrival.source for arrival in arrivals],
        "id": [arrival.id for arrival in arrivals],
        "order_id": [arrival.order_id for arrival in arrivals],
        "replay": [arrival.replay for arrival in arrivals],
    }


def snapshots(arrivals: Sequence[Arrival], rows: Sequence[Row], per_order: int) -> list[Snapshot]:
    """The rows of READ as one snapshot for each arrival."""
    return [_snapshot(arrival, row, per_order) for arrival, row in zip(arrivals, rows, strict=True)]


def arrivals_by_order(rows: Sequence[Row]) -> dict[str, tuple[Arrival, ...]]:
    """The rows of READ_WAITING."""
    waiting: dict[str, list[Arrival]] = {}
    for row in rows:
        waiting.setdefault(row["order_id"], []).append(read(_cloudevent(row)))
    return {order_id: tuple(arrivals) for order_id, arrivals in waiting.items()}


def write_values(plans: Sequence[Plan], revision: str, waiting: Waiting, now: datetime) -> Row:
    """The parameters of WRITE. waiting says how long after now a waiting event expires.

    Enums are passed as their values: pydantic writes strings four times as fast as enums.
    """
    rows: dict[str, list[Row]] = {"orders": [], "ledger": [], "waiting": [], "history": []}
    for plan in plans:
        _add_rows(rows, plan, waiting, now)
    values: Row = {name: to_json(each).decode() for name, each in rows.items()}
    return values | {"revision": revision}


def _add_rows(rows: dict[str, list[Row]], plan: Plan, waiting: Waiting, now: datetime) -> None:
    arrival = plan.arrival
    decided = {source: each.to_json() for source, each in plan.decided.items()}
    order: Row = {
        "order_id": arrival.order_id,
        "lock": plan.lock,
        "changed": plan.state is not None,
        "decided": decided or None,
    }
    if plan.state is not None:
        order |= _state_row(plan.state) | {
            "document": plan.document,
            "placed_at": arrival.occurred_at,
        }
    rows["orders"].append(order)
    for entry in plan.entries:
        first, last = entry.versions or (None, None)
        rows["ledger"].append(
            {
                "source": entry.source,
                "id": entry.id,
                "order_id": arrival.order_id,
                "kind": entry.kind,
                "digest": entry.digest,
                "outcome": entry.outcome.value,
                "reason": _reason_row(entry.reason),
                "first_version": first,
                "last_version": last,
                "occurred_at": entry.occurred_at,
                "sequence": entry.sequence,
                "validated_by": entry.validated_by,
                "taken_by": entry.taken_by,
                "was": entry.previous_outcome.value if entry.previous_outcome else None,
                "content_digest": entry.content_digest or None,
                "replays": entry.replays or None,
                "former_digests": entry.former_digests or None,
            }
        )
    if plan.waits:
        rows["waiting"].append(
            {
                "source": arrival.source,
                "id": arrival.id,
                "order_id": arrival.order_id,
                "kind": arrival.fact.kind,
                "attributes": arrival.event.attributes(),
                "data": arrival.fact.model_dump(mode="json", exclude_none=True),
                "digest": arrival.digest,
                "occurred_at": arrival.occurred_at,
                "expires_at": now + timedelta(hours=waiting.hours_of(arrival.fact.kind)),
            }
        )
    for change in plan.changes:
        state = change.state
        rows["history"].append(
            {
                "order_id": arrival.order_id,
                "version": state.version,
                "source": change.source,
                "id": change.id,
                "kind": change.kind,
                "status": state.status.value,
                "payment": state.payment.value,
                "captured": state.captured,
                "refunded": state.refunded,
                "detail": change.detail,
                "occurred_at": change.occurred_at,
            }
        )


def _state_row(state: OrderState) -> Row:
    return {
        "status": state.status.value,
        "payment": state.payment.value,
        "resumes": state.resumes.value if state.resumes else None,
        "currency": state.currency,
        "total": state.total,
        "captured": state.captured,
        "refunded": state.refunded,
        "version": state.version,
        "digest": state.digest,
        "content_digest": state.content_digest or None,
    }


def _reason_row(reason: Reason | None) -> Row | None:
    return {"code": reason.code, "field": reason.field, "text": reason.text} if reason else None


def _snapshot(arrival: Arrival, row: Row, per_order: int) -> Snapshot:
    state = None
    if row["version"]:
        state = OrderState(
            status=Status(row["status"]),
            payment=Payment(row["payment"]),
            currency=row["currency"],
            total=row["total"],
            captured=row["captured"],
            refunded=row["refunded"],
            resumes=Status(row["resumes"]) if row["resumes"] else None,
            version=row["version"],
            digest=row["order_digest"],
            content_digest=row["order_content_digest"] or "",
        )
    return Snapshot(
        lock=row["lock"] or 0,
        state=state,
        document=row["document"] or "",
        entry=_ledger_entry(arrival, row),
        changes=_changes(row["changes"] or (), state),
        waits=bool(row["waiting_count"]),
        may_wait=(row["waiting_count"] or 0) < per_order,
        decided={source: Decided.from_json(each) for source, each in (row["decided"] or {}).items()},
        replay_known=row["replay_known"],
    )


def _changes(rows: Sequence[Row], order: OrderState | None) -> tuple[Change, ...]:
    return tuple(change_from_row(row, order.currency, order.total) for row in rows) if order else ()


def _ledger_entry(arrival: Arrival, row: Row) -> LedgerEntry | None:
    if row["outcome"] is None:
        return None
    return LedgerEntry(
        source=arrival.source,
        id=arrival.id,
        kind=row["kind"],
        digest=row["digest"],
        outcome=Outcome(row["outcome"]),
        reason=Reason(**row["reason"]) if row["reason"] else None,
        versions=(row["first_version"], row["last_version"]) if row["first_version"] else None,
        occurred_at=row["occurred_at"],
        content_digest=row["content_digest"] or "",
        replays=tuple(row["replays"] or ()),
        former_digests=tuple(row["former_digests"] or ()),
    )


def _cloudevent(row: Row) -> CloudEvent:
    attributes = dict(row["attributes"])
    attributes.pop("specversion")
    named = {name: attributes.pop(name, "") for name in ("type", "source", "id", "subject", "time")}
    data = json.dumps(row["data"], separators=(",", ":"), ensure_ascii=False).encode()
    return CloudEvent(**named, data=data, extensions=attributes)
