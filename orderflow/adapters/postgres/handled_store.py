"""Writes handled places to PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.adapters.postgres.pool import Database
    from orderflow.messaging.handled_places import Log

ADD: Final = """
INSERT INTO handled (stage, topic, topic_id, partition, offsets)
SELECT * FROM unnest(%(stage)s::text[], %(topic)s::text[], %(topic_id)s::text[], %(partition)s::int[],
                     %(offsets)s::int8multirange[])
ON CONFLICT (stage, topic_id, partition) DO UPDATE SET offsets = handled.offsets + excluded.offsets
"""


class HandledStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, ranges: Sequence[tuple[Log, Sequence[tuple[int, int]]]]) -> None:
        """ranges are pairs of a first offset and the offset after the last, for each log once."""
        logs = [each for each, _ in ranges]
        values = {
            "stage": [each.stage for each in logs],
            "topic": [each.topic for each in logs],
            "topic_id": [each.topic_id for each in logs],
            "partition": [each.partition for each in logs],
            "offsets": [multirange(pairs) for _, pairs in ranges],
        }
        async with self._database.connection() as connection:
            await connection.execute(ADD, values)


def multirange(pairs: Sequence[tuple[int, int]]) -> str:
    """The text of an int8multirange."""
    return "{" + ",".join(f"[{first},{end})" for first, end in pairs) + "}"
