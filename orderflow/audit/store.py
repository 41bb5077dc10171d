"""The audit's SQL: what the database knows of the records, and the audit's own positions, runs and repairs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row
from pydantic_core import to_json

from orderflow.actions import known_replay
from orderflow.adapters.kafka import kafka_record
from orderflow.adapters.kafka.gap_process import Gap
from orderflow.adapters.kafka.kafka_record import identity
from orderflow.adapters.postgres.connection import ABORT_SECONDS, bounded, limits, parameters, unavailable
from orderflow.audit.log_changes import KnownLog
from orderflow.domain.digests import Digests
from orderflow.domain.lifecycle import Outcome
from orderflow.messaging import inbox_event, topics
from orderflow.messaging.status_event import change_from_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from orderflow.adapters.kafka.kafka_record import Identity, KafkaRecord
    from orderflow.audit.report import Report
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.status_event import Change
    from orderflow.settings import DatabaseSettings

RUN_LOCK: Final = 0x0F11
"""For pg_advisory_lock: only its holder audits. PostgreSQL releases it when the process dies."""
_STATEMENT_SECONDS: Final = 120

Row = dict[str, Any]

_LEDGER: Final = """
SELECT l.outcome, l.digest, l.content_digest, l.replays, l.former_digests, l.recorded_at
FROM unnest(%(source)s::text[], %(id)s::text[]) WITH ORDINALITY AS e (source, id, n)
LEFT JOIN ledger l ON l.source = e.source AND l.id = e.id ORDER BY e.n
"""
_KNOWN_REPLAYS: Final = f"""
SELECT {known_replay.IS_KNOWN} AS is_known
FROM unnest(%(source)s::text[], %(id)s::text[], %(replay)s::text[]) WITH ORDINALITY AS e (source, id, replay, n)
ORDER BY e.n
"""  # noqa: S608 - a constant condition
_PARKED: Final = """
SELECT EXISTS (
    SELECT FROM parked p WHERE p.topic = %(topic)s AND p.topic_id IN ('', %(topic_id)s) AND p.partition = e.partition
                           AND p."offset" = e."offset"
) OR EXISTS (
    SELECT FROM parked p WHERE md5(p.source || chr(31) || p.event_id) = md5(e.source || chr(31) || e.id)
                           AND p.source = e.source AND p.event_id = e.id AND sha256(p.payload) = e.digest
                           AND (e.replay = '' OR p.returned = e.replay)
) AS is_parked
FROM unnest(%(source)s::text[], %(id)s::text[], %(replay)s::text[], %(digest)s::bytea[], %(partition)s::int[],
            %(offset)s::bigint[]) WITH ORDINALITY AS e (source, id, replay, digest, partition, "offset", n)
ORDER BY e.n
"""
_PARKED_BY_TRACK: Final = """
SELECT EXISTS (
    SELECT FROM parked p WHERE md5(p.source || chr(31) || p.event_id) = md5(%(source)s || chr(31) || e.id)
                           AND p.source = %(source)s AND p.event_id = e.id
                           AND (p.attributes ->> 'origindigest' = e.digest
                                OR p.attributes ->> 'contentdigest' = e.content_digest)
                           AND (e.replay = '' OR p.returned = e.replay)
) AS is_parked
FROM unnest(%(id)s::text[], %(digest)s::text[], %(content_digest)s::text[], %(replay)s::text[])
    WITH ORDINALITY AS e (id, digest, content_digest, replay, n)
ORDER BY e.n
"""
_SHELVED: Final = """
SELECT id FROM parked WHERE id = ANY (%(ids)s)
UNION ALL SELECT id FROM operator_actions WHERE id = ANY (%(ids)s) AND outcome <> 'sending'
"""
"""Of an action that is `sending` nobody knows whether Kafka has its event: shelve has to get it again."""
_NOTIFIED: Final = """
SELECT event_id FROM notifications WHERE event_id = ANY (%(ids)s)
GROUP BY event_id HAVING bool_and(state IN ('sent', 'failed'))
"""
_GAPS: Final = """
SELECT e.partition, int8multirange(int8range(e.first, e.until)) - coalesce(h.offsets, '{}') AS gaps
FROM unnest(%(partition)s::int[], %(first)s::bigint[], %(until)s::bigint[]) AS e (partition, first, until)
LEFT JOIN handled h ON h.stage = %(stage)s AND h.topic_id = %(topic_id)s AND h.partition = e.partition
WHERE e.first < e.until ORDER BY e.partition
"""
_FORGET: Final = """
UPDATE handled SET offsets = offsets * int8multirange(int8range(0, %(first)s))
WHERE stage = %(stage)s AND topic_id = %(topic_id)s AND partition = %(partition)s
"""
_UNANNOUNCED: Final = """
SELECT h.serial, h.order_id, h.version, h.source, h.id, h.kind, h.status, h.payment, h.captured, h.refunded, h.detail,
       h.occurred_at::text AS occurred_at, h.revision, h.recorded_at, o.currency, o.total, o.document::text AS document
FROM unnest(%(first)s::bigint[], %(end)s::bigint[]) AS e (first, until)
JOIN history h ON h.serial >= e.first AND h.serial < e.until JOIN orders o USING (order_id)
ORDER BY h.serial LIMIT %(limit)s
"""
_LAST_SERIAL: Final = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS serial FROM history_serial"
_SNAPSHOT: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next
"""
_KNOWN_LOGS: Final = """
SELECT topic_id, partition, judged, log_end, leader_epoch, checkpoints, seen_at FROM audit_logs WHERE topic = %(topic)s
"""
_SAVE: Final = """
INSERT INTO audit_logs (topic, topic_id, partition, judged, log_end, leader_epoch, checkpoints)
SELECT %(topic)s, %(topic_id)s, * FROM unnest(%(partition)s::int[], %(judged)s::bigint[], %(log_end)s::bigint[],
                                              %(leader_epoch)s::int[], %(checkpoints)s::json[])
ON CONFLICT (topic_id, partition) DO UPDATE
SET judged = excluded.judged, log_end = excluded.log_end, leader_epoch = excluded.leader_epoch,
    checkpoints = excluded.checkpoints, seen_at = now()
"""
_REPUBLISHED: Final = """
INSERT INTO audit_republished AS r (topic, source, id) VALUES (%(topic)s, %(source)s, %(id)s)
ON CONFLICT (topic, source, id) DO UPDATE SET times = r.times + 1, last_at = now() RETURNING times
"""
_REOPEN: Final = """
WITH unanswered AS (
    SELECT p.id FROM parked p JOIN operator_actions a ON a.id = p.replay
    CROSS JOIN LATERAL (
        SELECT coalesce(a.detail ->> 'source', p.attributes ->> 'originsource', p.source) AS source,
               coalesce(a.detail ->> 'event_id', p.attributes ->> 'originid', p.event_id) AS id) AS o
    WHERE p.state = 'replayed' AND p.replayed_at < now() - %(age)s AND p.topic = ANY (%(topics)s)
      AND NOT EXISTS (SELECT FROM ledger l WHERE l.source = o.source AND l.id = o.id
                                             AND (p.replay = ANY (l.replays) OR l.outcome IN ('applied', 'waiting')))
      AND NOT EXISTS (SELECT FROM parked q WHERE q.order_id = p.order_id AND q.returned = p.replay)
)
UPDATE parked SET state = 'open', returned = replay FROM unanswered u WHERE parked.id = u.id RETURNING parked.id
"""
"""A replay has its outcome where track decided it, where its event has taken effect or waits, or where it was parked
again."""
_BEGIN: Final = "INSERT INTO audit_runs (id, started_at) VALUES (%(id)s, %(started_at)s)"
_KILLED: Final = "UPDATE audit_runs SET state = 'killed' WHERE state = 'running'"
_END: Final = """
UPDATE audit_runs
SET state = %(state)s, finished_at = %(finished_at)s, report = %(report)s WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row of the ledger."""

    outcome: Outcome
    digests: Digests
    replays: frozenset[str]
    former_digests: frozenset[str]
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class UnannouncedChange:
    """A change whose status event track did not confirm. document is the order as JSON, revision that of track which
    committed the change."""

    serial: int
    order_id: str
    change: Change
    document: str
    revision: str
    committed_at: datetime


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
                **parameters(settings, "orderflow-audit"), autocommit=True, row_factory=dict_row
            ) as connection:
                store = cls(connection)
                if (statement := limits(settings, _STATEMENT_SECONDS)) is not None:
                    await connection.execute(*statement)
                lock = await store._rows("SELECT pg_try_advisory_lock(%(lock)s) AS ours", {"lock": RUN_LOCK})
                try:
                    yield store if lock[0]["ours"] else None
                finally:
                    # The server notices a closed connection only a moment later; the next run may begin before that.
                    await store._rows("SELECT pg_advisory_unlock_all()")
        except (psycopg.OperationalError, psycopg.InternalError) as error:
            raise unavailable(error) from error

    async def _rows(self, statement: str, values: Mapping[str, object] | None = None) -> list[Row]:
        with bounded(self._connection, _STATEMENT_SECONDS + ABORT_SECONDS):
            cursor = await self._connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def ledger(self, identities: Sequence[Identity]) -> list[LedgerEntry | None]:
        """The ledger's entry of each originating event, in the order of the identities."""
        rows = await self._rows(_LEDGER, _columns(identities))
        return [
            LedgerEntry(
                Outcome(row["outcome"]),
                Digests(row["digest"], row["content_digest"] or ""),
                frozenset(row["replays"] or ()),
                frozenset(row["former_digests"] or ()),
                row["recorded_at"],
            )
            if row["outcome"]
            else None
            for row in rows
        ]

    async def replays(self, records: Sequence[KafkaRecord]) -> list[str]:
        """The operators' replay or edit that sent each record; empty where none did, whatever the record says."""
        claimed = [kafka_record.replay(record) for record in records]
        if not any(each for _, each in claimed):
            return [""] * len(claimed)
        values = _columns([origin for origin, _ in claimed]) | {"replay": [each for _, each in claimed]}
        rows = await self._rows(_KNOWN_REPLAYS, values)
        return [each if row["is_known"] else "" for (_, each), row in zip(claimed, rows, strict=True)]

    async def parked(self, topic_id: str, records: Sequence[KafkaRecord]) -> list[bool]:
        """Whether each record has been parked. The records are of one topic, which has this id."""
        if not records:
            return []
        identities = [identity(record) or ("", "") for record in records]
        values = _columns(identities) | {
            "topic": records[0].topic,
            "topic_id": topic_id,
            "replay": await self.replays(records),
            "digest": [record.payload_digest for record in records],
            "partition": [record.partition for record in records],
            "offset": [record.offset for record in records],
        }
        return [row["is_parked"] for row in await self._rows(_PARKED, values)]

    async def parked_by_track(self, events: Sequence[tuple[CloudEvent, Digests]]) -> list[bool]:
        """Whether what validate made of each inbox event, with these digests, is stored as a parked event."""
        values = {
            "source": inbox_event.VALIDATED_SOURCE,
            "id": [inbox_event.validated_id(event.source, event.id) for event, _ in events],
            "digest": [digests.origin for _, digests in events],
            "content_digest": [digests.content for _, digests in events],
            "replay": [event.extensions.get("replay", "") for event, _ in events],
        }
        return [row["is_parked"] for row in await self._rows(_PARKED_BY_TRACK, values)]

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

    async def known_logs(self, topic: str) -> list[KnownLog]:
        """What the last run saved of the topic's partitions, and of those of earlier topics of this name."""
        rows = await self._rows(_KNOWN_LOGS, {"topic": topic})
        return [
            KnownLog(
                **row | {"checkpoints": tuple((offset, digest) for offset, digest in row["checkpoints"])}
            )
            for row in rows
        ]

    async def save_logs(self, topic: str, logs: Sequence[KnownLog]) -> None:
        """The logs are of one topic."""
        if logs:
            values = {
                "topic": topic,
                "topic_id": logs[0].topic_id,
                "partition": [each.partition for each in logs],
                "judged": [each.judged for each in logs],
                "log_end": [each.log_end for each in logs],
                "leader_epoch": [each.leader_epoch for each in logs],
                "checkpoints": [to_json(each.checkpoints).decode() for each in logs],
            }
            await self._rows(_SAVE, values)

    async def remove_logs(self, topic: str, topic_id: str) -> None:
        """Removes what is known of an earlier topic of this name."""
        values = {"topic": topic, "topic_id": topic_id}
        await self._rows("DELETE FROM audit_logs WHERE topic = %(topic)s AND topic_id = %(topic_id)s", values)
        await self._rows("DELETE FROM handled WHERE topic = %(topic)s AND topic_id = %(topic_id)s", values)

    async def gaps(self, stage: str, topic_id: str, ranges: Mapping[int, tuple[int, int]]) -> list[Gap]:
        """The offsets in the ranges (first, end; by partition) that are not handled, by partition and offset."""
        values = {
            "stage": stage,
            "topic_id": topic_id,
            "partition": list(ranges),
            "first": [first for first, _ in ranges.values()],
            "until": [end for _, end in ranges.values()],
        }
        return [
            Gap(partition=row["partition"], first=gap.lower, end=gap.upper)
            for row in await self._rows(_GAPS, values)
            for gap in row["gaps"]
        ]

    async def forget(self, stage: str, topic_id: str, partition: int, first: int) -> None:
        """Takes the places from this offset on out of those that are handled."""
        values = {"stage": stage, "topic_id": topic_id, "partition": partition, "first": first}
        await self._rows(_FORGET, values)

    async def times_republished(self, topic: str, identity: Identity) -> int:
        """Records that the event is published again. Returns how often it has been, this time included.

        The row has a digest of the identity, because an index has no room for a source and id of any length.
        """
        digest = sha256("\x1f".join(identity).encode(errors="surrogatepass")).hexdigest()
        values = {"topic": topic, "source": "", "id": digest}
        return int((await self._rows(_REPUBLISHED, values))[0]["times"])

    async def reopen(self, age: timedelta) -> list[str]:
        """Opens the parked events again whose replay or edit is older than age and has no outcome. Returns their
        ids."""
        values = {"age": age, "topics": [topics.INBOX, topics.EVENTS]}
        return [row["id"] for row in await self._rows(_REOPEN, values)]

    async def last_serial(self) -> int:
        """The serial of the last change that any transaction has written or is writing."""
        return int((await self._rows(_LAST_SERIAL))[0]["serial"])

    async def snapshot(self) -> tuple[int, int]:
        """The oldest transaction that still runs, and the next one."""
        row = (await self._rows(_SNAPSHOT))[0]
        return row["oldest"], row["next"]

    async def changes(self, gaps: Sequence[Gap], limit: int) -> list[UnannouncedChange]:
        """The changes whose serials lie in the gaps, in their sequence."""
        values = {"first": [gap.first for gap in gaps], "end": [gap.end for gap in gaps], "limit": limit}
        return [
            UnannouncedChange(
                row["serial"],
                row["order_id"],
                change_from_row(row, row["currency"], row["total"]),
                row["document"],
                row["revision"],
                row["recorded_at"],
            )
            for row in await self._rows(_UNANNOUNCED, values)
        ]

    async def claimed(self, event_ids: Sequence[str]) -> set[str]:
        """Those status events of which notify knows."""
        statement = "SELECT DISTINCT event_id FROM notifications WHERE event_id = ANY (%(ids)s)"
        return {row["event_id"] for row in await self._rows(statement, {"ids": list(event_ids)})}

    async def begin(self, report: Report) -> int:
        """Inserts the run's row. Returns how many earlier runs were killed, and marks them so."""
        killed = await self._connection.execute(_KILLED)
        await self._rows(_BEGIN, {"id": report.id, "started_at": report.started_at})
        return killed.rowcount

    async def end(self, report: Report) -> None:
        values = {
            "id": report.id,
            "state": report.state.value,
            "finished_at": report.finished_at,
            "report": to_json(report.as_dict()).decode(),
        }
        await self._rows(_END, values)


def _columns(identities: Sequence[Identity]) -> Row:
    return {"source": [source for source, _ in identities], "id": [each for _, each in identities]}
