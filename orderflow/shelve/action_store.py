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
from orderflow.errors import TransientError
from orderflow.messaging import cloudevent
from orderflow.messaging.status_event import change_from_row, status_event, status_event_id

if TYPE_CHECKING:
    from orderflow.actions.events import Action
    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.adapters.postgres.pool import Database
    from orderflow.errors import Reason
    from orderflow.messaging.cloudevent import CloudEvent

OUTCOME: Final = "SELECT outcome FROM operator_actions WHERE id = %(id)s"
INSERT: Final = """
INSERT INTO operator_actions (id, request, kind, order_id, parked_id, by, reason, detail, outcome, refusal, occurred_at)
VALUES (%(id)s, %(request)s, %(kind)s, %(order_id)s, %(parked_id)s, %(by)s, %(reason)s, %(detail)s, %(outcome)s,
        %(refusal)s, %(occurred_at)s)
ON CONFLICT DO NOTHING RETURNING id
"""
MARK_REPLAYED: Final = """
UPDATE parked SET replays = replays + 1, replay = %(id)s, replayed_at = now(), state = 'replayed'
WHERE id = %(parked_id)s AND state = 'open' RETURNING id
"""
"""Before the event is published: where the replay fails, the event is parked again, which opens it again."""
MARK_NOT_REPLAYED: Final = """
UPDATE parked SET replays = replays - 1, state = 'open' WHERE id = %(parked_id)s AND replay = %(id)s
"""
MARK_DISCARDED: Final = "UPDATE parked SET state = 'discarded' WHERE id = %(parked_id)s"
MARK_SENT: Final = "UPDATE operator_actions SET outcome = 'done' WHERE id = %(id)s AND outcome = 'sending'"
MARK_REFUSED: Final = """
UPDATE operator_actions SET outcome = 'refused', refusal = %(refusal)s WHERE id = %(id)s AND outcome = 'sending'
RETURNING id
"""
EXTEND_WAITING: Final = """
UPDATE waiting SET expires_at = greatest(expires_at, now()) + make_interval(secs => %(hours)s * 3600)
WHERE order_id = %(order_id)s
"""
SET_DETAIL: Final = "UPDATE operator_actions SET detail = %(detail)s WHERE id = %(id)s"


CHANGE: Final = """
SELECT h.source, h.id, h.kind, h.status, h.payment, h.captured, h.refunded, h.version, h.detail, h.serial,
       h.occurred_at::text AS occurred_at, o.currency, o.total, o.document::text AS document
FROM history h JOIN orders o USING (order_id)
WHERE h.order_id = %(order_id)s AND h.source = %(source)s AND h.id = %(id)s
"""


class ActionStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, action_id: str, parked_id: str) -> tuple[str, ParkedEvent | None]:
        """The outcome of the action, empty where it is not recorded, and its parked event, if the action has one and
        the event is known."""
        async with self._database.connection() as connection:
            answer = await (await connection.execute(OUTCOME, {"id": action_id})).fetchone()
            outcome = answer["outcome"] if answer else ""
            if not parked_id:
                return outcome, None
            rows = await connection.execute(f"{parked_event.SELECT} WHERE id = %(id)s", {"id": parked_id})
            row = await rows.fetchone()
        return outcome, parked_event.from_row(row) if row else None

    async def status_event(self, parked: ParkedEvent) -> CloudEvent | None:
        """The status event of the change that a parked status event announces, made of the order's history. None where
        the history has no such change."""
        attributes = parked.attributes
        values = {
            "order_id": parked.order_id,
            "source": attributes.get("originsource", ""),
            "id": attributes.get("originid", ""),
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(CHANGE, values)).fetchone()
        if row is None or status_event_id(values["source"], values["id"]) != attributes.get("id"):
            return None
        change = change_from_row(row, row["currency"], row["total"])
        return status_event(parked.order_id, row["document"], change)

    async def begin(self, event: CloudEvent, action: ParkedEventAction, sent: CloudEvent) -> None:
        """Records that the action sends an event, before it is sent: from here on, track believes the replay.

        Raises TransientError where another action has taken the parked event meanwhile.
        """
        detail: dict[str, Any] = {"source": sent.source, "event_id": sent.id}
        if isinstance(action, ParkedEventEdited):
            detail = {"fields": action.fields} | detail
        values = _values(event, action, "sending", detail=detail)
        async with self._database.connection() as connection, connection.transaction():
            inserted = await (await connection.execute(INSERT, values)).fetchone()
            if inserted and await (await connection.execute(MARK_REPLAYED, values)).fetchone() is None:
                raise TransientError("another action has taken the parked event")

    async def finish(self, action_id: str) -> None:
        """Records that Kafka has confirmed what the action sends."""
        async with self._database.connection() as connection:
            await connection.execute(MARK_SENT, {"id": action_id})

    async def fail(self, action_id: str, parked_id: str, refusal: Reason) -> None:
        """Records that the action can never be sent. Its parked event is open again."""
        values = {"id": action_id, "parked_id": parked_id, "refusal": json.dumps(asdict(refusal))}
        async with self._database.connection() as connection, connection.transaction():
            if await (await connection.execute(MARK_REFUSED, values)).fetchone() is not None:
                await connection.execute(MARK_NOT_REPLAYED, values)

    async def record(self, event: CloudEvent, action: Action, refusal: Reason | None) -> None:
        """Writes an action that sends nothing, and what it changes. Does nothing where it is already recorded."""
        outcome, detail = "done", dict[str, Any]()
        if isinstance(action, OrderActionAsked):
            outcome, detail = "asked", {"event_id": action.event_id}
        values = _values(event, action, "refused" if refusal else outcome, detail=detail, refusal=refusal)
        async with self._database.connection() as connection, connection.transaction():
            inserted = await connection.execute(INSERT, values)
            if await inserted.fetchone() is None or refusal is not None:
                return
            if isinstance(action, WaitingExtended):
                extended = await connection.execute(EXTEND_WAITING, values | {"hours": action.hours})
                detail = {"hours": action.hours, "events": extended.rowcount}
                await connection.execute(SET_DETAIL, values | {"detail": json.dumps(detail)})
            elif isinstance(action, ParkedEventDiscarded):
                await connection.execute(MARK_DISCARDED, values)


def _values(
    event: CloudEvent, action: Action, outcome: str, *, detail: dict[str, Any], refusal: Reason | None = None
) -> dict[str, Any]:
    return {
        "id": event.id,
        "request": action.request,
        "kind": action.asked if isinstance(action, OrderActionAsked) else action.kind,
        "order_id": event.subject,
        "parked_id": action.parked_id if isinstance(action, ParkedEventAction) else "",
        "by": action.by,
        "reason": action.reason,
        "detail": json.dumps(detail),
        "outcome": outcome,
        "refusal": json.dumps(asdict(refusal)) if refusal else None,
        "occurred_at": cloudevent.moment(event.time),
    }
