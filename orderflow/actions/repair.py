"""Undoes what a bad revision did to events that are parked since: each goes again from where the fault was made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from orderflow.actions import events, resend
from orderflow.actions.json_document import differences
from orderflow.actions.parked_event import in_order
from orderflow.actions.service import Accepted, Skipped
from orderflow.domain.events import kind_of
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import inbox_event, topics
from orderflow.messaging.parked_event import OVERTAKEN
from orderflow.messaging.places import INBOX_PLACE, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from orderflow.actions.events import ActionRequest
    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.messaging.cloudevent import CloudEvent

    class RepairReader(Protocol):
        """The port to orderflow.query.store.reader.Reader."""

        def repairable(
            self, revision: str, stage: str, after: str | None, limit: int
        ) -> list[RepairableEvent]: ...

    class InboxRecords(Protocol):
        """The port to orderflow.query.clients.inbox.InboxLog."""

        def events(self, places: Iterable[Place]) -> dict[Place, CloudEvent]:
            """Only those whose record is still in the log. Raises TransientError where Kafka does not answer."""


MAX_AT_ONCE: Final = 1000
"""Of the parked events that one request repairs."""
_MAX_FIELDS: Final = 50
_IN_SEQUENCE: Final = frozenset({"held", "released", "cancelled"})
"""The kinds of inbox events that take effect only where no later event of their source was decided: to hold an order
that was released since is wrong. Of any other kind the lifecycle refuses what later events have made stale."""

_WRONG_AMOUNTS: Final = frozenset({"amount_mismatch", "currency_mismatch", "refund_exceeds_payment"})
"""The codes of the reasons for which track parks a payment whatever revision passed it on."""


class Part(StrEnum):
    """What the revision did to a parked event."""

    TOOK = "took"
    """intake: the revision wrote the inbox event."""
    JUDGED = "judged"
    """validate: the revision made the event of an inbox event."""
    RENDERED = "rendered"
    """track: the revision wrote the status event."""
    PARKED = "parked"
    """The revision did not make the event, and parked it."""
    FOLLOWS = "follows"
    """Another revision parked the event, because an earlier event of its order had been parked."""


class Way(StrEnum):
    REPLAYED = "replayed"
    """Sent again as it is."""
    VALIDATED = "validated_anew"
    """The inbox event that it was made of is sent again."""
    ANNOUNCED = "announced_anew"
    """Its change is announced as the order's history has the change."""


@dataclass(frozen=True, slots=True)
class RepairableEvent:
    parked: ParkedEvent
    part: Part


@dataclass(frozen=True, slots=True)
class RepairStep(Accepted):
    """stage is the stage that parked the event."""

    stage: str = ""
    way: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """after: the order after which the next request goes on, None where no more parked events remain. warnings are for
    the operator. The names of the fields are those of the API."""

    request: str
    revision: str
    taken: list[RepairStep] = field(default_factory=list)
    left: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    after: str | None = None


class RevisionRepairs:
    """publish returns when Kafka has confirmed all events."""

    def __init__(
        self,
        reader: RepairReader,
        inbox: InboxRecords,
        publish: Callable[[str, Sequence[CloudEvent]], None],
    ) -> None:
        self._reader = reader
        self._inbox = inbox
        self._publish = publish

    def repair(
        self,
        revision: str,
        request: ActionRequest,
        *,
        stage: str = "",
        after: str | None = None,
        dry_run: bool = False,
    ) -> Repair:
        """Sends the open parked events that the revision made or parked, those of each order in sequence, and says what
        is left and why. With dry_run nothing is published.

        stage limits it to what that stage parked; after, to the orders behind that one.
        """
        rows = self._reader.repairable(revision, stage, after, MAX_AT_ONCE + 1)
        rows, next_after = _whole_orders(rows)
        result = Repair(request.id, revision, after=next_after)
        parts = {each.parked.id: each.part for each in rows}
        inbox_events = self._inbox_events(rows)
        actions = []
        for parked in _in_sequence(rows):
            try:
                way, action = _action(parked, parts[parked.id], request, inbox_events)
            except PoisonError as error:
                result.left.append(Skipped(parked.id, parked.order_id, error.reasons[0]))
                continue
            actions.append(action)
            event_type = parked.attributes.get("type", "")
            result.taken.append(
                RepairStep(
                    action.id, parked.order_id, parked.id, event_type, stage=parked.stage, way=way.value
                )
            )
        if not dry_run:
            self._publish(topics.PARKED, actions)
        return result

    def _inbox_events(self, rows: Sequence[RepairableEvent]) -> dict[Place, CloudEvent]:
        places = {_inbox_place(each.parked) for each in rows if each.part is Part.JUDGED} - {None}
        return self._inbox.events([place for place in places if place]) if places else {}


def _whole_orders(rows: list[RepairableEvent]) -> tuple[list[RepairableEvent], str | None]:
    """rows are sorted by order. Where there are more than one request repairs, the last order is left to the next
    request, since it may not be complete."""
    if len(rows) <= MAX_AT_ONCE:
        return rows, None
    last = rows[-1].parked.order_id
    complete = [each for each in rows if each.parked.order_id != last] or rows[:MAX_AT_ONCE]
    return complete, complete[-1].parked.order_id


def _in_sequence(rows: Sequence[RepairableEvent]) -> list[ParkedEvent]:
    """Status events first: their changes are older than what a replay changes. They follow each other as they lay in
    their topic."""
    status = [each.parked for each in rows if each.parked.topic_of_record == topics.STATUS]
    others = [each.parked for each in rows if each.parked.topic_of_record != topics.STATUS]
    return sorted(status, key=_status_sequence) + in_order(others)


def _status_sequence(parked: ParkedEvent) -> tuple[str, int, str]:
    offset = parked.place.offset if parked.place else 0
    return parked.order_id, offset, parked.parked_at.isoformat()


def _inbox_place(parked: ParkedEvent) -> Place | None:
    """Where the inbox event lies of which the event was made. A replay in the inbox repeats what validate had made, so
    its first record counts."""
    if parked.topic_of_record == topics.EVENTS:
        return Place.parse(parked.attributes.get(INBOX_PLACE, ""))
    return parked.first_place


def _action(
    parked: ParkedEvent, part: Part, request: ActionRequest, inbox_events: dict[Place, CloudEvent]
) -> tuple[Way, CloudEvent]:
    """Raises PoisonError, with what a person has to do, where the event cannot be sent again."""
    if OVERTAKEN in parked.codes:
        text = "a later event of its source was decided: replay this event only if it still counts"
        raise _left(OVERTAKEN, text)
    if part is Part.TOOK:
        text = "intake's revision wrote this event, and nothing before it is stored: edit the event, or ask its sender"
        raise _left("made_by_intake", text)
    if part is Part.RENDERED:
        return Way.ANNOUNCED, events.announce(parked, request)
    if part is Part.JUDGED:
        return Way.VALIDATED, _validated_anew(parked, request, inbox_events)
    _, event = resend.original_event(parked, "")
    return Way.REPLAYED, events.replay(parked, request, late=_may_be_late(event.type))


def _may_be_late(event_type: str) -> bool:
    return kind_of(event_type) not in _IN_SEQUENCE


def _validated_anew(
    parked: ParkedEvent, request: ActionRequest, inbox_events: dict[Place, CloudEvent]
) -> CloudEvent:
    """An edit that sets the event back to what came to the inbox."""
    place = _inbox_place(parked)
    original = inbox_events.get(place) if place else None
    if original is None or (original.source, original.id) != parked.origin:
        text = "its inbox record is gone: edit the event to what was sent, or ask its sender to send it again"
        raise _left("inbox_record_gone", text)
    try:
        data = json.loads(original.data)
    except (ValueError, RecursionError):
        raise _left("json_invalid", "its inbox record is not JSON: discard the event") from None
    attributes = {name: getattr(original, name) for name in ("type", "source", "id", "subject", "time")}
    document = attributes | {"data": data}
    resend.edited_event(parked, document, "")
    content = json.loads(inbox_event.normalised(inbox_event.read(original)))
    fields = tuple(differences(resend.document(parked), attributes | {"data": content})[:_MAX_FIELDS])
    if not fields and _WRONG_AMOUNTS.intersection(parked.codes):
        raise _left(
            "unchanged", "this is what came to the inbox, and its amount does not fit the order: edit it"
        )
    return events.edit(parked, request, document, fields, late=_may_be_late(original.type))


def _left(code: str, text: str) -> PoisonError:
    return PoisonError(Reason(code, "", text))
