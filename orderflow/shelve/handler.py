"""Shelve's part of an action: it sends what is to be sent, then writes what was done."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderflow.actions import events, resend
from orderflow.actions.events import LetterAction, LetterDiscarded, LetterEdited
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, topics, trace_context

if TYPE_CHECKING:
    from typing import Protocol

    from orderflow.actions.events import Action
    from orderflow.actions.resend import Letter
    from orderflow.messaging.cloudevent import Envelope
    from orderflow.messaging.parked_event import Parked
    from orderflow.messaging.publisher import Publisher

    class Shelf(Protocol):
        async def put(self, event: Envelope, parked: Parked) -> None: ...

    class Record(Protocol):
        """What was done so far; orderflow.shelve.action_store.ActionRecord says more."""

        async def look(self, action_id: str, parked_id: str) -> tuple[bool, Letter | None]: ...
        async def enter(self, event: Envelope, action: Action, refusal: Reason | None) -> None: ...


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Errand:
    """What an action comes to: an event to send, if any, or why it is refused."""

    topic: str = ""
    event: Envelope | None = None
    refusal: Reason | None = None


def errand(action: Action, action_id: str, letter: Letter | None) -> Errand:
    """Decides an action on what is known of its letter (None: there is none)."""
    if not isinstance(action, LetterAction):
        return Errand()
    if letter is None:
        return Errand(refusal=Reason("letter_unknown", "parked_id", "there is no such parked event"))
    if letter.state != "open":
        return Errand(refusal=not_open(letter))
    if isinstance(action, LetterDiscarded):
        return Errand()
    try:
        if isinstance(action, LetterEdited):
            return Errand(topics.INBOX, resend.edited(letter, action.event, action_id))
        return Errand(*resend.replayed(letter, action_id))
    except PoisonError as error:
        return Errand(refusal=error.reasons[0])


def not_open(letter: Letter) -> Reason:
    done = "discarded" if letter.state == "discarded" else "replayed"
    return Reason(f"already_{done}", "state", f"the parked event was {done} before")


class Carrier:
    """Takes the events of the parked topic: letters go on the shelf, actions are carried out.

    What an action sends is in its topic before the action is on record; if the process dies in between, the
    next delivery sends it again under the same ids, and it takes effect once.
    """

    def __init__(self, shelf: Shelf, record: Record, publisher: Publisher) -> None:
        self._shelf = shelf
        self._record = record
        self._publisher = publisher

    async def handle(self, event: Envelope) -> str:
        """Returns `shelved`, `done`, `refused` or `duplicate`.

        Raises PoisonError for an event that is neither, UnavailableError for trouble.
        """
        if not events.is_action(event.type):
            await self._shelf.put(event, parked_event.read(event))
            return "shelved"
        action = events.read(event)
        parked_id = action.parked_id if isinstance(action, LetterAction) else ""
        done, letter = await self._record.look(event.id, parked_id)
        if done:
            return "duplicate"
        work = errand(action, event.id, letter)
        if work.event is not None:
            # It goes on in the operator's trace; the one in which it was parked is linked to.
            await self._publisher.publish(work.topic, [trace_context.relink(work.event, event)])
        await self._record.enter(event, action, work.refusal)
        told = {"order_id": event.subject, "action_id": event.id, "by": action.by, "parked_id": parked_id}
        log.info("%s", f"{action.kind} by an operator" if work.refusal is None else "refused", extra=told)
        return "done" if work.refusal is None else "refused"
