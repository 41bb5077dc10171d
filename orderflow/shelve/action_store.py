"""Records operators' actions in PostgreSQL, with what each action changes. orderflow/query/store reads them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from orderflow.actions import parked_event
from orderflow.actions.events import (
    OrderActionAsked,
    ParkedEventAction,
    ParkedEventDiscarded,
    ParkedEventEdited,
    WaitingExtended,
)
from orderflow.messaging import cloudevent

if TYPE_CHECKING:
    from orderflow.actions.events import Action
    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.adapters.postgres.pool import Database
    from orderflow.errors import Reason
    from orderflow.messaging.cloudevent import CloudEvent

IS_RECORDED: Final = "SELECT EXISTS (SELECT FROM operator_actions WHERE id = %(id)s) AS recorded"
INSERT: Final = """
INSERT INTO operator_actions (id, request, kind, order_id, parked_id, by, reason, detail, outcome, refusal, occurred_at)
VALUES (%(id)s, %(request)s, %(kind)s, %(order_id)s, %(parked_id)s, %(by)s, %(reason)s, %(detail)s, %(outcome)s,
        %(refusal)s, %(occurred_at)s)
ON CONFLICT DO NOTHING RETURNING id
"""
MARK_REPLAYED: Final = """
UPDATE parked SET replays = replays + 1, replay = %(id)s, replayed_at = now(),
       state = CASE WHEN returned = %(id)s THEN 'open' ELSE 'replayed' END
WHERE id = %(parked_id)s
"""
"""If the replayed event was parked again before this statement, the replay failed: the parked event stays open."""
MARK_DISCARDED: Final = "UPDATE parked SET state = 'discarded' WHERE id = %(parked_id)s"
EXTEND_WAITING: Final = """
UPDATE waiting SET expires_at = greatest(expires_at, now()) + make_interval(secs => %(hours)s * 3600)
WHERE order_id = %(order_id)s
"""
SET_DETAIL: Final = "UPDATE operator_actions SET detail = %(detail)s WHERE id = %(id)s"


class ActionStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, action_id: str, parked_id: str) -> tuple[bool, ParkedEvent | None]:
        """Whether the action is recorded, and its parked event, if the action has one and the event is known."""
        async with self._database.connection() as connection:
            answer = await (await connection.execute(IS_RECORDED, {"id": action_id})).fetchone()
            recorded = bool(answer and answer["recorded"])
            if not parked_id:
                return recorded, None
            rows = await connection.execute(f"{parked_event.SELECT} WHERE id = %(id)s", {"id": parked_id})
            row = await rows.fetchone()
        return recorded, parked_event.from_row(row) if row else None

    async def record(self, event: CloudEvent, action: Action, refusal: Reason | None) -> None:
        """Writes the action and what it changes. Does nothing where the action is already recorded."""
        values = _values(event, action, refusal)
        async with self._database.connection() as connection, connection.transaction():
            inserted = await connection.execute(INSERT, values)
            if await inserted.fetchone() is None or refusal is not None:
                return
            if isinstance(action, WaitingExtended):
                extended = await connection.execute(EXTEND_WAITING, values | {"hours": action.hours})
                detail = json.dumps({"hours": action.hours, "events": extended.rowcount})
                await connection.execute(SET_DETAIL, values | {"detail": detail})
            elif isinstance(action, ParkedEventDiscarded):
                await connection.execute(MARK_DISCARDED, values)
            elif isinstance(action, ParkedEventAction):
                await connection.execute(MARK_REPLAYED, values)


def _values(event: CloudEvent, action: Action, refusal: Reason | None) -> dict[str, Any]:
    kind, outcome = action.kind, "done"
    detail: dict[str, Any] = {}
    if isinstance(action, OrderActionAsked):
        kind, outcome, detail = action.asked, "asked", {"event_id": action.event_id}
    elif isinstance(action, ParkedEventEdited):
        # The ledger will store the edited event under this source and id.
        edited = action.event
        detail = {"fields": action.fields, "source": edited.get("source"), "event_id": edited.get("id")}
    return {
        "id": event.id,
        "request": action.request,
        "kind": kind,
        "order_id": event.subject,
        "parked_id": action.parked_id if isinstance(action, ParkedEventAction) else "",
        "by": action.by,
        "reason": action.reason,
        "detail": json.dumps(detail),
        "outcome": "refused" if refusal else outcome,
        "refusal": json.dumps(asdict(refusal)) if refusal else None,
        "occurred_at": cloudevent.moment(event.time),
    }
