"""Reads for operators' actions: parked events with their content, actions and their outcomes, the last audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row, dict_row
from psycopg.sql import SQL

from orderflow.actions import parked_event
from orderflow.query.store.orders import Reader
from orderflow.query.store.read_model import ActionResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import LiteralString

    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.actions.service import Selection

SELECTED: Final[dict[str, LiteralString]] = {
    "ids": "id = ANY(%(ids)s)",
    "order": "order_id = %(order)s AND state = 'open'",
    "code": "stage = %(stage)s AND code = %(code)s AND state = 'open'",
}
RESULTS: Final = """
SELECT a.id, a.request, a.kind, a.order_id, a.parked_id, a.by, a.reason, a.detail, a.outcome, a.refusal,
       a.occurred_at, a.recorded_at, p.stage AS parked_stage, p.state AS parked_state,
       l.outcome AS event_outcome, l.reason AS event_reason
FROM operator_actions a
LEFT JOIN parked p ON p.id = a.parked_id
LEFT JOIN LATERAL (
    SELECT l.outcome, l.reason FROM ledger l
    WHERE l.source = coalesce(a.detail ->> 'source', CASE p.stage WHEN 'track' THEN p.attributes ->> 'originsource' END,
                              p.source, %(operators)s)
      AND l.id = coalesce(a.detail ->> 'event_id', CASE p.stage WHEN 'track' THEN p.attributes ->> 'originid' END,
                          p.event_id)
      AND (a.kind NOT IN ('replayed', 'edited') OR l.outcome = 'applied' OR l.recorded_at >= a.occurred_at)
) l ON a.kind NOT IN ('discarded', 'extended')
WHERE {condition} ORDER BY a.recorded_at, a.id LIMIT 1000
"""
"""What was done and, where an event came of it, what became of that since."""
RESULTS_OF: Final[dict[str, LiteralString]] = {
    "request": "a.request = %(value)s",
    "parked_id": "a.parked_id = %(value)s",
}
LAST_AUDIT: Final = """
SELECT id::text AS id, started_at, finished_at, state, report FROM audit_runs ORDER BY started_at DESC LIMIT 1
"""

ENDED_AUDIT: Final = """
SELECT finished_at, state, report FROM audit_runs WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
"""


class DeskReader(Reader):
    def parked_events(self, selection: Selection, limit: int) -> list[ParkedEvent]:
        """The oldest events of a selection. Those selected by id may have any state."""
        values: dict[str, Any] = selection.model_dump() | {"ids": list(selection.ids), "limit": limit}
        condition = SELECTED[selection.by]
        statement = SQL(f"{parked_event.SELECT} WHERE {condition} ORDER BY parked_at, id LIMIT %(limit)s")
        with self._snapshot() as connection:
            rows = connection.cursor(row_factory=dict_row).execute(statement, values).fetchall()
        return [parked_event.from_row(row) for row in rows]

    def results(self, of: str, value: str) -> list[ActionResult]:
        """The actions of a request (`request`) or on a parked event (`parked_id`), the oldest first."""
        from orderflow.actions.events import SOURCE

        statement = SQL(RESULTS).format(condition=SQL(RESULTS_OF[of]))
        with self._snapshot() as connection:
            cursor = connection.cursor(row_factory=class_row(ActionResult))
            return cursor.execute(statement, {"value": value, "operators": SOURCE}).fetchall()

    def parked_ids_of(self, request_id: str) -> Sequence[str]:
        """The parked events on which a request has acted so far."""
        return [result.parked_id for result in self.results("request", request_id)]

    def last_audit(self) -> dict[str, Any] | None:
        with self._snapshot() as connection:
            return connection.cursor(row_factory=dict_row).execute(LAST_AUDIT).fetchone()

    def ended_audit(self) -> dict[str, Any] | None:
        """The last run that came to its end."""
        with self._snapshot() as connection:
            return connection.cursor(row_factory=dict_row).execute(ENDED_AUDIT).fetchone()
