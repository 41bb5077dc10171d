"""What operators did: shelve writes it, query reads it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from orderflow.actions.events import (
    LetterAction,
    LetterDiscarded,
    LetterEdited,
    OrderActionAsked,
    WaitingExtended,
)
from orderflow.actions.resend import Letter
from orderflow.messaging import cloudevent as ce

if TYPE_CHECKING:
    from orderflow.actions.events import Action
    from orderflow.adapters.postgres.pool import Database
    from orderflow.errors import Reason
    from orderflow.messaging.cloudevent import Envelope

LETTER: Final = """
SELECT id, order_id, stage, topic, state, reasons, attributes, payload, parked_at FROM parked
"""
LOOK: Final = "SELECT EXISTS (SELECT FROM operator_actions WHERE id = %(id)s) AS done"
ENTER: Final = """
INSERT INTO operator_actions (id, request, kind, order_id, parked_id, by, reason, detail, outcome, refusal, occurred_at)
VALUES (%(id)s, %(request)s, %(kind)s, %(order_id)s, %(parked_id)s, %(by)s, %(reason)s, %(detail)s, %(outcome)s,
        %(refusal)s, %(occurred_at)s)
ON CONFLICT DO NOTHING RETURNING id
"""
REPLAYED: Final = """
UPDATE parked SET replays = replays + 1, replay = %(id)s,
       state = CASE WHEN returned = %(id)s THEN 'open' ELSE 'replayed' END
WHERE id = %(parked_id)s
"""
"""Where the letter was parked again before this is written, it is open: the replay did not help."""
DISCARDED: Final = "UPDATE parked SET state = 'discarded' WHERE id = %(parked_id)s"
EXTENDED: Final = """
UPDATE waiting SET expires_at = greatest(expires_at, now()) + make_interval(secs => %(hours)s * 3600)
WHERE order_id = %(order_id)s
"""
HOW_MANY: Final = "UPDATE operator_actions SET detail = %(detail)s WHERE id = %(id)s"


class ActionRecord:
    """What shelve needs of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, action_id: str, parked_id: str) -> tuple[bool, Letter | None]:
        """Is the action done, and what is known of its letter?"""
        async with self._database.connection() as connection:
            known = await (await connection.execute(LOOK, {"id": action_id})).fetchone()
            if not parked_id:
                return bool(known and known["done"]), None
            found = await connection.execute(f"{LETTER} WHERE id = %(id)s", {"id": parked_id})
            row = await found.fetchone()
        return bool(known and known["done"]), letter(row) if row else None

    async def enter(self, event: Envelope, action: Action, refusal: Reason | None) -> None:
        """Writes the action and what it changes, once."""
        values = _values(event, action, refusal)
        async with self._database.connection() as connection, connection.transaction():
            entered = await connection.execute(ENTER, values)
            if await entered.fetchone() is None or refusal is not None:
                return
            if isinstance(action, WaitingExtended):
                extended = await connection.execute(EXTENDED, values | {"hours": action.hours})
                detail = json.dumps({"hours": action.hours, "events": extended.rowcount})
                await connection.execute(HOW_MANY, values | {"detail": detail})
            elif isinstance(action, LetterDiscarded):
                await connection.execute(DISCARDED, values)
            elif isinstance(action, LetterAction):
                await connection.execute(REPLAYED, values)


def _values(event: Envelope, action: Action, refusal: Reason | None) -> dict[str, Any]:
    kind, outcome = action.kind, "done"
    detail: dict[str, Any] = {}
    if isinstance(action, OrderActionAsked):
        kind, outcome, detail = action.asked, "asked", {"event_id": action.event_id}
    elif isinstance(action, LetterEdited):
        # By these the ledger will know the event that was sent in the letter's place.
        sent = action.event
        detail = {"fields": action.fields, "source": sent.get("source"), "event_id": sent.get("id")}
    return {
        "id": event.id,
        "request": action.request,
        "kind": kind,
        "order_id": event.subject,
        "parked_id": action.parked_id if isinstance(action, LetterAction) else "",
        "by": action.by,
        "reason": action.reason,
        "detail": json.dumps(detail),
        "outcome": "refused" if refusal else outcome,
        "refusal": json.dumps(asdict(refusal)) if refusal else None,
        "occurred_at": ce.moment(event.time),
    }


def letter(row: dict[str, Any]) -> Letter:
    """A row of LETTER."""
    named = {
        name: row[name] for name in ("id", "order_id", "stage", "topic", "state", "attributes", "parked_at")
    }
    codes = tuple(reason["code"] for reason in row["reasons"])
    return Letter(**named, codes=codes, payload=bytes(row["payload"]))
