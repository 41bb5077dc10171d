"""Stores parked events, and executes operators' actions: records an action, then publishes what it sends."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderflow.actions import events, resend
from orderflow.actions.events import (
    ParkedEventAction,
    ParkedEventAnnounced,
    ParkedEventDiscarded,
    ParkedEventEdited,
    ParkedEventReplayed,
)
from orderflow.actions.parked_event import not_open
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, topics, trace_context
from orderflow.messaging.places import INBOX_PLACE, Place

if TYPE_CHECKING:
    from typing import Protocol

    from orderflow.actions.events import Action
    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.handled_places import HandledPlaces
    from orderflow.messaging.parked_event import Parked
    from orderflow.messaging.publisher import Publisher

    class ParkedEvents(Protocol):
        """The port to orderflow.shelve.parked_store."""

        async def upsert(self, event: CloudEvent, parked: Parked) -> None: ...

    class Actions(Protocol):
        """The port to orderflow.shelve.action_store."""

        async def find(self, action_id: str, parked_id: str) -> tuple[str, ParkedEvent | None]: ...
        async def status_event(self, parked: ParkedEvent) -> CloudEvent | None: ...
        async def begin(self, event: CloudEvent, action: ParkedEventAction, sent: CloudEvent) -> None: ...
        async def finish(self, action_id: str) -> None: ...
        async def fail(self, action_id: str, parked_id: str, refusal: Reason) -> None: ...
        async def record(self, event: CloudEvent, action: Action, refusal: Reason | None) -> None: ...


log = logging.getLogger(__name__)

SENDING: Final = "sending"
"""The outcome of an action whose event Kafka has not confirmed yet."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an action requires: an event to publish to a topic, a refusal, or neither."""

    topic: str = ""
    event: CloudEvent | None = None
    refusal: Reason | None = None


def decide(
    action: Action,
    action_id: str,
    parked: ParkedEvent | None,
    *,
    has_begun: bool = False,
    status_event: CloudEvent | None = None,
) -> Command:
    """parked is the action's parked event, None where it is not known. has_begun: an earlier delivery recorded that the
    action sends its event, and may not have sent it. status_event is the one that the order's history gives, None where
    the history has no change for it."""
    if not isinstance(action, ParkedEventAction):
        return Command()
    if parked is None:
        return Command(refusal=Reason("letter_unknown", "parked_id", "there is no such parked event"))
    if parked.state != "open" and not (has_begun and parked.state == "replayed"):
        return Command(refusal=not_open(parked))
    if isinstance(action, ParkedEventDiscarded):
        return Command()
    if isinstance(action, ParkedEventAnnounced):
        if status_event is None:
            text = "the order's history has no change that this event announces"
            return Command(refusal=Reason("change_unknown", "parked_id", text))
        return Command(topics.STATUS, status_event.with_extensions(replay=action_id))
    try:
        if isinstance(action, ParkedEventEdited):
            sent = resend.edited_event(parked, action.event, action_id, late=bool(action.late))
            return Command(topics.INBOX, sent)
        late = isinstance(action, ParkedEventReplayed) and bool(action.late)
        return Command(*resend.original_event(parked, action_id, late=late))
    except PoisonError as error:
        return Command(refusal=error.reasons[0])


class ActionHandler:
    """Handles the events of the parked topic.

    An action is recorded as `sending` before its event is published, because track believes a replay only if the
    operators' table has it. If the process dies in between, the next delivery publishes the event again under the same
    id, and it takes effect once.
    """

    def __init__(
        self, parked_events: ParkedEvents, actions: Actions, publisher: Publisher, places: HandledPlaces
    ) -> None:
        self._parked_events = parked_events
        self._actions = actions
        self._publisher = publisher
        self._places = places

    async def handle(self, event: CloudEvent) -> str:
        """Returns `shelved`, `done`, `refused` or `duplicate`.

        Raises PoisonError where the event is neither a parked event nor an action, TransientError where Kafka or the
        database is unavailable.
        """
        if not events.is_action(event.type):
            parked = parked_event.read(event)
            await self._parked_events.upsert(event, parked)
            self._add_places(parked)
            return "shelved"
        action = events.read(event)
        parked_id = action.parked_id if isinstance(action, ParkedEventAction) else ""
        outcome, parked_row = await self._actions.find(event.id, parked_id)
        if outcome not in {"", SENDING}:
            return "duplicate"
        status_event = None
        if isinstance(action, ParkedEventAnnounced) and parked_row is not None:
            status_event = await self._actions.status_event(parked_row)
        has_begun = outcome == SENDING
        command = decide(action, event.id, parked_row, has_begun=has_begun, status_event=status_event)
        refusal = command.refusal
        if isinstance(action, ParkedEventAction) and command.event is not None:
            refusal = await self._send(event, action, command.topic, command.event)
        elif has_begun and refusal is not None:
            await self._actions.fail(event.id, parked_id, refusal)
        else:
            await self._actions.record(event, action, refusal)
        extra = {"order_id": event.subject, "action_id": event.id, "by": action.by, "parked_id": parked_id}
        log.info("%s", f"{action.kind} by an operator" if refusal is None else "refused", extra=extra)
        return "done" if refusal is None else "refused"

    async def _send(
        self, event: CloudEvent, action: ParkedEventAction, topic: str, sent: CloudEvent
    ) -> Reason | None:
        """Records the action, and publishes the event that it sends. Returns why Kafka takes no such event."""
        await self._actions.begin(event, action, sent)
        try:
            # The event continues the operator's trace and links to the trace in which it was parked.
            await self._publisher.publish(topic, [trace_context.relink(sent, event)])
        except PoisonError as error:
            await self._actions.fail(event.id, action.parked_id, error.reasons[0])
            return error.reasons[0]
        await self._actions.finish(event.id)
        return None

    def _add_places(self, parked: Parked) -> None:
        """A parked record has come to its end. So has the inbox record that it was made of."""
        topic = parked_event.TOPIC_OF.get(parked.stage)
        if topic is None or parked.topic != topic:
            return
        if parked.topic_id and parked.partition is not None and parked.offset is not None:
            place = Place(parked.topic_id, parked.partition, parked.offset)
            self._places.add(parked.stage, topic, place)
        if topic == topics.EVENTS:
            inbox_place = Place.parse(parked.attributes.get(INBOX_PLACE, ""))
            self._places.add("validate", topics.INBOX, inbox_place)
