"""Parked events with their content, for operators' actions, and the results of those actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row
from psycopg.sql import SQL

from orderflow.actions import parked_event
from orderflow.actions.events import SOURCE
from orderflow.query.store.read_model import ActionResult
from orderflow.query.store.snapshot_pool import fetch

if TYPE_CHECKING:
    from typing import LiteralString

    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.actions.service import Selection
    from orderflow.query.store.snapshot_pool import Connection

SELECTIONS: Final[dict[str, LiteralString]] = {
    "ids": "id = ANY(%(ids)s)",
    "order": "order_id = %(order)s AND state = 'open'",
    "code": "stage = %(stage)s AND code = %(code)s AND state = 'open'",
}
DETAIL: Final = """
CASE WHEN a.parked_id = '' THEN a.detail ELSE (a.detail::jsonb - 'source' - 'event_id')::json END AS detail
"""
"""The detail of an action a, without the source and id of a parked event: its sender chose them."""
SENDING_KINDS: Final = "'replayed', 'edited', 'announced'"
"""The kinds of actions that send a parked event again."""
RESULTS: Final = f"""
SELECT a.id, a.request, a.kind, a.order_id, a.parked_id, a.by, a.reason, {DETAIL}, a.outcome, a.refusal,
       a.occurred_at, a.recorded_at, p.stage AS parked_stage, p.state AS parked_state,
       CASE WHEN r.came_back THEN 'parked' ELSE l.outcome END AS event_outcome,
       CASE WHEN NOT r.came_back OR l.outcome = 'parked' THEN l.reason END AS event_reason
FROM operator_actions a
LEFT JOIN parked p ON p.id = a.parked_id
LEFT JOIN LATERAL (
    SELECT l.outcome, l.reason FROM ledger l
    WHERE l.source = coalesce(a.detail ->> 'source', CASE p.stage WHEN 'track' THEN p.attributes ->> 'originsource' END,
                              p.source, %(operators)s)
      AND l.id = coalesce(a.detail ->> 'event_id', CASE p.stage WHEN 'track' THEN p.attributes ->> 'originid' END,
                          p.event_id)
      AND (a.kind NOT IN ({SENDING_KINDS}) OR l.outcome = 'applied' OR l.recorded_at >= a.occurred_at)
) l ON a.kind NOT IN ('discarded', 'extended')
CROSS JOIN LATERAL (
    SELECT a.parked_id <> '' AND a.kind IN ({SENDING_KINDS}) AND (
        EXISTS (SELECT FROM parked q WHERE q.order_id = a.order_id AND q.returned = a.id)
        OR EXISTS (SELECT FROM operator_actions b WHERE b.parked_id = a.parked_id AND b.id <> a.id
                       AND b.kind IN ({SENDING_KINDS}) AND b.outcome IN ('sending', 'done')
                       AND b.recorded_at > a.recorded_at)) AS came_back
) r
WHERE {{condition}} ORDER BY a.recorded_at, a.id LIMIT 1000
"""  # noqa: S608 - both parts are constants
"""Each action with the ledger's outcome of the event that the action sent, if it sent one. An event that was parked
again, or that a later action could send again, was parked, whatever the later action has led to."""
CONDITIONS: Final[dict[str, LiteralString]] = {
    "request": "a.request = %(value)s",
    "parked_id": "a.parked_id = %(value)s",
}


def parked_events(connection: Connection, selection: Selection, limit: int) -> list[ParkedEvent]:
    """The selected parked events, oldest first: those named, in any state; else only open ones."""
    values: dict[str, Any] = selection.model_dump() | {"ids": list(selection.ids), "limit": limit}
    statement = SQL(
        f"{parked_event.SELECT} WHERE {SELECTIONS[selection.by]} ORDER BY parked_at, id LIMIT %(limit)s"
    )
    rows = connection.cursor(row_factory=dict_row).execute(statement, values).fetchall()
    return [parked_event.from_row(row) for row in rows]


def results(connection: Connection, column: str, value: str) -> list[ActionResult]:
    """The actions of a request (column `request`) or on a parked event (`parked_id`), oldest first."""
    statement = SQL(RESULTS).format(condition=SQL(CONDITIONS[column]))
    return fetch(connection, ActionResult, statement, {"value": value, "operators": SOURCE})
