"""What a revision did: the parked events that can be sent again, and the orders on which it left its mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg.rows import dict_row
from psycopg.sql import SQL

from orderflow.actions import parked_event
from orderflow.actions.repair import Part, RepairableEvent
from orderflow.query.store.snapshot_pool import fetch

if TYPE_CHECKING:
    from orderflow.query.store.snapshot_pool import Connection

REPAIRABLE: Final = f"""
WITH concerned AS (
    SELECT p.id, p.order_id, p.parked_at,
           CASE WHEN p.revision <> %(revision)s AND EXISTS (
                    SELECT FROM operator_actions a WHERE a.id = p.returned AND a.kind IN ('edited', 'announced')
                ) THEN NULL
                WHEN p.attributes ->> 'trackedby' = %(revision)s THEN 'rendered'
                WHEN p.attributes ->> 'validatedby' = %(revision)s THEN 'judged'
                WHEN EXISTS (
                    SELECT FROM operator_actions a JOIN parked former ON former.id = a.parked_id
                    WHERE a.id = p.attributes ->> 'replay' AND a.kind = 'replayed'
                      AND former.attributes ->> 'validatedby' = %(revision)s
                ) THEN 'judged'
                WHEN p.revision = %(revision)s THEN 'parked'
                WHEN p.attributes ->> 'takenby' = %(revision)s THEN 'took'
           END AS part
    FROM parked p WHERE p.state = 'open' AND (%(after)s::text IS NULL OR p.order_id > %(after)s)
), parts AS (
    SELECT id, part FROM concerned WHERE part IS NOT NULL
    UNION ALL
    SELECT p.id, 'follows' FROM parked p
    JOIN (
        SELECT order_id, min(parked_at) AS parked_at FROM concerned
        WHERE part IS NOT NULL AND order_id <> '' GROUP BY order_id
    ) first ON first.order_id = p.order_id AND p.parked_at >= first.parked_at
    WHERE p.state = 'open' AND p.stage = 'track' AND p.code = ANY(%(following)s)
      AND NOT EXISTS (SELECT FROM concerned c WHERE c.id = p.id AND c.part IS NOT NULL)
)
SELECT e.*, parts.part FROM ({parked_event.SELECT}) e JOIN parts USING (id)
WHERE %(stage)s = '' OR e.stage = %(stage)s
ORDER BY e.order_id, e.parked_at, e.id LIMIT %(limit)s
"""  # noqa: S608 - a constant statement
"""What was parked again with the content that it should have is no longer the revision's: an edit or a repair had sent
it. A replay that was parked again is known by the action that sent it: validate strips its own extensions from it."""
FOLLOWING: Final = ("forbidden_transition", "waited_too_long")
"""The codes of the reasons for which track parks an event because an earlier event of the order did not come."""
MARKED: Final = """
WITH marks AS (
    SELECT order_id, kind AS verdict, 0 AS changes, 0 AS refused, 0 AS notifications FROM ledger
    WHERE recorded_at > now() - make_interval(hours => %(hours)s) AND %(revision)s IN (validated_by, taken_by)
      AND outcome <> 'parked' AND (kind IN ('accepted', 'rejected') OR (kind = 'held' AND first_version = 1))
    UNION ALL
    SELECT order_id, NULL, 1, 0, 0 FROM history
    WHERE recorded_at > now() - make_interval(hours => %(hours)s) AND revision = %(revision)s
    UNION ALL
    SELECT order_id, NULL, 0, 1, 0 FROM ledger
    WHERE recorded_at > now() - make_interval(hours => %(hours)s) AND revision = %(revision)s AND outcome = 'refused'
    UNION ALL
    SELECT order_id, NULL, 0, 0, 1 FROM notifications
    WHERE created_at > now() - make_interval(hours => %(hours)s) AND state = 'sent'
      AND %(revision)s IN (revision, tracked_by)
)
SELECT m.order_id, o.status, min(m.verdict) AS verdict, sum(m.changes)::integer AS changes,
       sum(m.refused)::integer AS refused, sum(m.notifications)::integer AS notifications
FROM marks m LEFT JOIN orders o USING (order_id)
WHERE %(after)s::text IS NULL OR m.order_id > %(after)s
GROUP BY m.order_id, o.status ORDER BY m.order_id LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class MarkedOrder:
    """What a revision left on an order.

    verdict: the one that it gave or, of intake, that was given to the order which it took. changes: how many it wrote
    to the history. refused: how many events it refused. notifications: how many it sent, or sent for its status events.
    status is the order's present one.
    """

    order_id: str
    status: str | None
    verdict: str | None
    changes: int
    refused: int
    notifications: int


def repairable(
    connection: Connection, revision: str, stage: str, after: str | None, limit: int
) -> list[RepairableEvent]:
    """Open parked events, by order. stage: only what that stage parked; empty for all."""
    values = {
        "revision": revision,
        "stage": stage,
        "after": after,
        "limit": limit,
        "following": list(FOLLOWING),
    }
    rows = connection.cursor(row_factory=dict_row).execute(SQL(REPAIRABLE), values).fetchall()
    return [RepairableEvent(parked_event.from_row(row), Part(row["part"])) for row in rows]


def marked_orders(
    connection: Connection, revision: str, hours: int, after: str | None, limit: int
) -> list[MarkedOrder]:
    """The orders that the revision changed in the last hours, by their ids."""
    values = {"revision": revision, "hours": hours, "after": after, "limit": limit}
    return fetch(connection, MarkedOrder, SQL(MARKED), values)
