"""The audit's SQL: what the database knows of the records, and the audit's own positions, runs and repairs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row
from pydantic_core import to_json

from orderflow.domain.lifecycle import Outcome
from orderflow.errors import TransientError
from orderflow.messaging.status_event import change_from_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from orderflow.audit.kafka_record import Identity
    from orderflow.audit.report import Report
    from orderflow.messaging.status_event import Change
    from orderflow.settings import DatabaseSettings

RUN_LOCK: Final = 0x0F11
"""For pg_advisory_lock: only its holder audits. PostgreSQL releases it when the process dies."""

Row = dict[str, Any]

_LEDGER: Final = """
SELECT l.outcome, l.digest, l.recorded_at
FROM unnest(%(source)s::text[], %(id)s::text[]) WITH ORDINALITY AS e (source, id, n)
LEFT JOIN ledger l ON l.source = e.source AND l.id = e.id ORDER BY e.n
"""
_PARKED: Final = """
SELECT DISTINCT p.source, p.event_id FROM unnest(%(source)s::text[], %(id)s::text[]) AS e (source, id)
JOIN parked p ON p.source = e.source AND p.event_id = e.id
"""
_PARKED_PLACES: Final = """
SELECT DISTINCT p.partition, p."offset" FROM unnest(%(partition)s::int[], %(offset)s::bigint[]) AS e (part, place)
JOIN parked p ON p.topic = %(topic)s AND p.partition = e.part AND p."offset" = e.place
"""
_SHELVED: Final = """
SELECT id FROM parked WHERE id = ANY (%(ids)s) UNION ALL SELECT id FROM operator_actions WHERE id = ANY (%(ids)s)
"""
_NOTIFIED: Final = """
SELECT event_id FROM notifications WHERE event_id = ANY (%(ids)s)
GROUP BY event_id HAVING bool_and(state IN ('sent', 'failed'))
"""
_UNANNOUNCED: Final = """
SELECT h.order_id, h.version, h.source, h.id, h.kind, h.status, h.payment, h.captured, h.refunded, h.detail,
       h.occurred_at::text AS occurred_at, h.recorded_at, o.currency, o.total, o.document::text AS document
FROM history h JOIN orders o USING (order_id)
WHERE h.recorded_at > %(since)s AND h.recorded_at <= %(until)s
  AND NOT EXISTS (SELECT FROM announced a WHERE a.source = h.source AND a.id = h.id)
ORDER BY h.recorded_at LIMIT %(limit)s
"""
_CHANGES: Final = (
    "SELECT count(*) AS n FROM history WHERE recorded_at > %(since)s AND recorded_at <= %(until)s"
)
_SAVE: Final = """
INSERT INTO audit_positions (topic, partition, next_offset)
SELECT %(topic)s, * FROM unnest(%(partition)s::int[], %(offset)s::bigint[])
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
"""
_REPUBLISHED: Final = """
INSERT INTO audit_republished AS r (topic, source, id) VALUES (%(topic)s, %(source)s, %(id)s)
ON CONFLICT (topic, source, id) DO UPDATE SET times = r.times + 1, last_at = now() RETURNING times
"""
_BEGIN: Final = "INSERT INTO audit_runs (id, started_at) VALUES (%(id)s, %(started_at)s)"
_KILLED: Final = "UPDATE audit_runs SET state = 'killed' WHERE state = 'running'"
_END: Final = """
UPDATE audit_runs
SET state = %(state)s, finished_at = %(finished_at)s, report = %(report)s, announced_until = %(until)s
WHERE id = %(id)s
"""
_ANNOUNCED_UNTIL: Final = "SELECT max(announced_until) AS until FROM audit_runs"
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row of the ledger."""

    outcome: Outcome
    digest: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class UnannouncedChange:
    """A change whose status event is not in the log. document is the order as JSON."""

    order_id: str
    change: Change
    document: str
    recorded_at: datetime


class AuditStore:
    """One connection for one run. Its lock excludes a second run. Raises TransientError where the database is
    unavailable."""

    def __init__(self, connection: psycopg.AsyncConnection[Row]) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: DatabaseSettings) -> AsyncIterator[AuditStore | None]:
        """Yields None where another run is under way."""
        try:
            async with await psycopg.AsyncConnection.connect(
                settings.database_url.get_secret_value(),
                autocommit=True,
                row_factory=dict_row,
                application_name="orderflow-audit",
            ) as connection:
                store = cls(connection)
                lock = await store._rows("SELECT pg_try_advisory_lock(%(lock)s) AS ours", {"lock": RUN_LOCK})
                try:
                    yield store if lock[0]["ours"] else None
                finally:
                    # The server notices a closed connection only a moment later; the next run may begin before that.
                    await store._rows("SELECT pg_advisory_unlock_all()")
        except (psycopg.OperationalError, psycopg.InternalError) as error:
            raise TransientError(f"the database is not available: {type(error).__name__}") from error

    async def _rows(self, statement: str, values: Mapping[str, object] | None = None) -> list[Row]:
        cursor = await self._connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []

    async def ledger(self, identities: Sequence[Identity]) -> list[LedgerEntry | None]:
        """The ledger's entry of each originating event, in the order of the identities."""
        rows = await self._rows(_LEDGER, _columns(identities))
        return [
            LedgerEntry(Outcome(row["outcome"]), row["digest"], row["recorded_at"])
            if row["outcome"]
            else None
            for row in rows
        ]

    async def parked(self, identities: Sequence[Identity]) -> set[Identity]:
        """Those identities that have a parked event, in any state."""
        rows = await self._rows(_PARKED, _columns(identities))
        return {(row["source"], row["event_id"]) for row in rows}

    async def parked_places(self, topic: str, places: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those places, as (partition, offset), whose record has been parked."""
        values = {
            "topic": topic,
            "partition": [partition for partition, _ in places],
            "offset": [offset for _, offset in places],
        }
        rows = await self._rows(_PARKED_PLACES, values)
        return {(row["partition"], row["offset"]) for row in rows}

    async def shelved(self, ids: Sequence[str]) -> set[str]:
        """Those events of the parked topic that shelve has stored."""
        return {row["id"] for row in await self._rows(_SHELVED, {"ids": list(ids)})}

    async def notified(self, ids: Sequence[str]) -> set[str]:
        """Those status events that have notifications, all of them sent or failed for good."""
        return {row["event_id"] for row in await self._rows(_NOTIFIED, {"ids": list(ids)})}

    async def disabled_endpoints(self) -> frozenset[str]:
        """The webhook endpoints that answered 410 (Gone)."""
        rows = await self._rows("SELECT endpoint FROM webhook_endpoints_gone")
        return frozenset(row["endpoint"] for row in rows)

    async def positions(self, topic: str) -> dict[int, int]:
        """By partition, the offset at which to continue. A partition that was never audited is left out."""
        statement = "SELECT partition, next_offset FROM audit_positions WHERE topic = %(topic)s"
        return {row["partition"]: row["next_offset"] for row in await self._rows(statement, {"topic": topic})}

    async def save_positions(self, topic: str, positions: Mapping[int, int]) -> None:
        values = {"topic": topic, "partition": list(positions), "offset": list(positions.values())}
        await self._rows(_SAVE, values)

    async def times_republished(self, topic: str, identity: Identity) -> int:
        """Records that the event is published again. Returns how often it has been, this time included."""
        values = {"topic": topic, "source": identity[0], "id": identity[1]}
        return int((await self._rows(_REPUBLISHED, values))[0]["times"])

    async def now(self) -> datetime:
        """The time of the database, whose clock sets recorded_at."""
        return (await self._rows("SELECT clock_timestamp() AS now"))[0]["now"]  # type: ignore[no-any-return]

    async def announced_until(self) -> datetime:
        """The time up to which earlier runs made sure that every change is announced."""
        return (await self._rows(_ANNOUNCED_UNTIL))[0]["until"] or _EARLIEST

    async def begin_announced(self) -> None:
        """Creates an empty table for what the status topic's log announces. The table ends with the connection."""
        await self._rows("DROP TABLE IF EXISTS announced")
        await self._rows("CREATE TEMP TABLE announced (source text NOT NULL, id text NOT NULL)")

    async def add_announced(self, identities: Iterable[Identity]) -> None:
        """identities are those of the originating events."""
        async with self._connection.cursor() as cursor, cursor.copy("COPY announced FROM STDIN") as copy:
            for identity in identities:
                await copy.write_row(identity)

    async def unannounced(self, since: datetime, until: datetime, limit: int) -> list[UnannouncedChange]:
        """The oldest changes recorded after since, up to until, whose originating event was not added to the table."""
        await self._rows("ANALYZE announced")
        rows = await self._rows(_UNANNOUNCED, {"since": since, "until": until, "limit": limit})
        return [
            UnannouncedChange(
                row["order_id"],
                change_from_row(row, row["currency"], row["total"]),
                row["document"],
                row["recorded_at"],
            )
            for row in rows
        ]

    async def count_changes(self, since: datetime, until: datetime) -> int:
        return int((await self._rows(_CHANGES, {"since": since, "until": until}))[0]["n"])

    async def begin(self, report: Report) -> int:
        """Inserts the run's row. Returns how many earlier runs were killed, and marks them so."""
        killed = await self._connection.execute(_KILLED)
        await self._rows(_BEGIN, {"id": report.id, "started_at": report.started_at})
        return killed.rowcount

    async def end(self, report: Report, announced_until: datetime | None) -> None:
        values = {
            "id": report.id,
            "state": report.state.value,
            "finished_at": report.finished_at,
            "report": to_json(report.as_dict()).decode(),
            "until": announced_until,
        }
        await self._rows(_END, values)


def _columns(identities: Sequence[Identity]) -> Row:
    return {"source": [source for source, _ in identities], "id": [each for _, each in identities]}
