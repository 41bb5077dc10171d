"""An operator's action as an event: who did what to which order or parked event, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeVar

from pydantic import Field, StringConstraints

from orderflow.domain.events import UPDATES, parse, type_of
from orderflow.domain.orders import Frozen, Text
from orderflow.errors import PoisonError, Reason
from orderflow.messaging.cloudevent import Envelope, derived_id

if TYPE_CHECKING:
    from orderflow.actions.resend import Letter

M = TypeVar("M", bound=Frozen)

SOURCE: Final = "/orderflow/operators"
ORDER_KINDS: Final = {"hold": "held", "release": "released", "cancel": "cancelled"}
"""The verbs that are ordinary events of an order, and the events' kinds."""
MOST_HOURS: Final = 24 * 365

Operator = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9@._-]+$")]
"""As an order's event takes it in `by`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked for. The same id is the same request: however often it comes, it takes effect once.

    time is RFC 3339.
    """

    id: str
    by: str
    time: str
    reason: str | None = None


class Action(Frozen):
    """What every action's data says."""

    type: ClassVar[str]
    kind: ClassVar[str]
    request: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    by: Operator
    reason: Text | None = None


class LetterAction(Action):
    parked_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class LetterReplayed(LetterAction):
    type: ClassVar[str] = "dev.orderflow.parked.replayed.v1"
    kind: ClassVar[str] = "replayed"


class LetterEdited(LetterAction):
    """event is the event that is sent in its place, in CloudEvents' JSON form; fields are the paths that differ."""

    type: ClassVar[str] = "dev.orderflow.parked.edited.v1"
    kind: ClassVar[str] = "edited"
    event: dict[str, Any]
    fields: tuple[str, ...] = ()


class LetterDiscarded(LetterAction):
    type: ClassVar[str] = "dev.orderflow.parked.discarded.v1"
    kind: ClassVar[str] = "discarded"
    reason: Text


class WaitingExtended(Action):
    """The events that wait for something to happen to the order may wait that much longer."""

    type: ClassVar[str] = "dev.orderflow.waiting.extended.v1"
    kind: ClassVar[str] = "extended"
    hours: Annotated[float, Field(gt=0, le=MOST_HOURS)]


class OrderActionAsked(Action):
    """That an order's event is an operator's. The event itself went to the inbox; this is for the record, since
    the ledger keeps no name and no reason of an event that was refused."""

    type: ClassVar[str] = "dev.orderflow.action.asked.v1"
    kind: ClassVar[str] = "asked"
    asked: Annotated[str, StringConstraints(pattern="^(held|released|cancelled)$")]
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]


MODELS: Final[dict[str, type[Action]]] = {
    model.type: model
    for model in (LetterReplayed, LetterEdited, LetterDiscarded, WaitingExtended, OrderActionAsked)
}


def is_action(event_type: str) -> bool:
    return event_type in MODELS


def read(event: Envelope) -> Action:
    """Raises PoisonError where the event is no action, or its data is not its type's."""
    model = MODELS.get(event.type)
    if model is None:
        raise PoisonError(Reason("type_unknown", "type", "this is no operator's action"))
    return parse(model, event.data)


def action_id(request: str, of: str) -> str:
    """The id of a request's action on one letter or order."""
    return derived_id("action", request, of)


def replay(letter: Letter, asked: Request) -> Envelope:
    return _event(letter.order_id, letter.id, asked, LetterReplayed, {"parked_id": letter.id})


def discard(letter: Letter, asked: Request) -> Envelope:
    return _event(letter.order_id, letter.id, asked, LetterDiscarded, {"parked_id": letter.id})


def edit(letter: Letter, asked: Request, event: dict[str, Any], fields: tuple[str, ...]) -> Envelope:
    more = {"parked_id": letter.id, "event": event, "fields": fields}
    return _event(letter.order_id, letter.id, asked, LetterEdited, more)


def extend(order_id: str, asked: Request, hours: float) -> Envelope:
    return _event(order_id, f"waiting of {order_id}", asked, WaitingExtended, {"hours": hours})


def order_event(kind: str, order_id: str, asked: Request) -> Envelope:
    """The inbox event that holds, releases or cancels an order; kind is the event's, such as `held`."""
    fact = _checked(UPDATES[kind], {"by": asked.by, "reason": asked.reason})
    return Envelope(
        type=type_of(kind),
        source=SOURCE,
        id=action_id(asked.id, order_id),
        subject=order_id,
        time=asked.time,
        data=fact.model_dump_json(exclude_none=True).encode(),
        extensions={"partitionkey": order_id},
    )


def record_of(event: Envelope, kind: str, asked: Request) -> Envelope:
    """What keeps the operator's name and reason with an order's event, whatever becomes of it."""
    more = {"asked": kind, "event_id": event.id}
    return _event(event.subject, f"record of {event.id}", asked, OrderActionAsked, more)


def _event(order_id: str, of: str, asked: Request, model: type[Action], more: dict[str, Any]) -> Envelope:
    action = _checked(model, {"request": asked.id, "by": asked.by, "reason": asked.reason} | more)
    return Envelope(
        type=model.type,
        source=SOURCE,
        id=action_id(asked.id, of),
        subject=order_id,
        time=asked.time,
        data=action.model_dump_json(exclude_none=True).encode(),
        extensions={"partitionkey": order_id} if order_id else {},
    )


def _checked(model: type[M], given: dict[str, Any]) -> M:
    """Raises PoisonError naming the field, as for an event that came from outside."""
    known = {name: value for name, value in given.items() if value is not None}
    return parse(model, json.dumps(known).encode())
