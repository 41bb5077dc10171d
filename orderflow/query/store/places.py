"""Places in the topics that no stage has recorded as handled, although a later place is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg.sql import SQL

from orderflow.query.store.snapshot_pool import fetch

if TYPE_CHECKING:
    from orderflow.query.store.snapshot_pool import Connection

UNACCOUNTED: Final = """
SELECT h.stage, h.topic, sum(greatest(0, upper(h.offsets) - a.judged) - (
           SELECT coalesce(sum(upper(r) - lower(r)), 0)
           FROM unnest(h.offsets * int8multirange(int8range(a.judged, NULL))) AS r))::bigint AS count
FROM handled h
LEFT JOIN LATERAL (
    SELECT coalesce(max(l.judged), 0) AS judged FROM audit_logs l
    WHERE l.topic_id = h.topic_id AND l.partition = h.partition
) AS a ON true
GROUP BY 1, 2 ORDER BY 1, 2
"""
"""Above what the last audit has judged; all where there was no audit. A record that is on its way while a later one is
done counts too."""


@dataclass(frozen=True, slots=True)
class Unaccounted:
    """The changes whose status event nobody has confirmed have the topic `history`."""

    stage: str
    topic: str
    count: int


def unaccounted(connection: Connection) -> list[Unaccounted]:
    return fetch(connection, Unaccounted, SQL(UNACCOUNTED))
