"""Writes handled places to PostgreSQL."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.adapters.postgres.pool import Connection, Database
    from orderflow.messaging.handled_places import Log

log = logging.getLogger(__name__)

ADD: Final = """
INSERT INTO handled (stage, topic, topic_id, partition, offsets)
SELECT * FROM unnest(%(stage)s::text[], %(topic)s::text[], %(topic_id)s::text[], %(partition)s::int[],
                     %(offsets)s::int8multirange[])
ON CONFLICT (stage, topic_id, partition) DO UPDATE SET offsets = handled.offsets + excluded.offsets
"""

SERVER: Final = """
SELECT pg_postmaster_start_time()::text || ' ' || oid AS server FROM pg_database WHERE datname = current_database()
"""
"""Another value after a restart, after a replica has taken over, and after the database was created anew."""


class HandledStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._server: str | None = None

    async def watch(self) -> None:
        """Remembers the server, unless one is remembered already."""
        if self._server is None:
            async with self._database.connection() as connection:
                self._server = await _server(connection)

    async def add(self, ranges: Sequence[tuple[Log, Sequence[tuple[int, int]]]]) -> None:
        """ranges are pairs of a first offset and the offset after the last, for each log once.

        Writes nothing at the first call after the server was restarted or replaced: effects may be lost that were
        committed before. The audit then looks at those places again.
        """
        logs = [each for each, _ in ranges]
        values = {
            "stage": [each.stage for each in logs],
            "topic": [each.topic for each in logs],
            "topic_id": [each.topic_id for each in logs],
            "partition": [each.partition for each in logs],
            "offsets": [multirange(pairs) for _, pairs in ranges],
        }
        async with self._database.connection() as connection:
            server, before = await _server(connection), self._server
            self._server = server
            if before in {None, server}:
                await connection.execute(ADD, values)
            else:
                log.warning("the database was restarted: places of the last moment are left to the audit")


async def _server(connection: Connection) -> str:
    row = await (await connection.execute(SERVER)).fetchone()
    return row["server"] if row else ""


def multirange(pairs: Sequence[tuple[int, int]]) -> str:
    """The text of an int8multirange."""
    return "{" + ",".join(f"[{first},{end})" for first, end in pairs) + "}"
