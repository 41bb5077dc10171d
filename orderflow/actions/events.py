"""Operators' actions as events: who did what to which order or parked event, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, TypeVar

from pydantic import Field, StringConstraints

from orderflow.domain.authority import OPERATORS
from orderflow.domain.events import UPDATES, parse, type_of
from orderflow.domain.orders import Frozen, Text
from orderflow.errors import PoisonError, Reason
from orderflow.messaging.cloudevent import CloudEvent, derived_id

if TYPE_CHECKING:
    from orderflow.actions.parked_event import ParkedEvent

M = TypeVar("M", bound=Frozen)

SOURCE: Final = OPERATORS
ORDER_KINDS: Final = {"hold": "held", "release": "released", "cancel": "cancelled"}
"""By verb, the kind of the order's event. These actions are ordinary events of an order."""
MAX_HOURS: Final = 24 * 365

Operator = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9@._-]+$")]
"""The form that an order's event requires of `by`."""


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """A request with the same id takes effect once, however often it is sent. time is in RFC 3339."""

    id: str
    by: str
    time: str
    reason: str | None = None


class Action(Frozen):
    """The data of an action."""

    type: ClassVar[str]
    kind: ClassVar[str]
    request: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    by: Operator
    reason: Text | None = None


class ParkedEventAction(Action):
    parked_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ParkedEventSent(ParkedEventAction):
    """late: the event takes effect although a later event of its source was decided since."""

    late: bool | None = None


class ParkedEventReplayed(ParkedEventSent):
    type: ClassVar[str] = "dev.orderflow.parked.replayed.v1"
    kind: ClassVar[str] = "replayed"


class ParkedEventEdited(ParkedEventSent):
    """event replaces the parked event and is in CloudEvents' JSON form. fields are the paths in which it differs."""

    type: ClassVar[str] = "dev.orderflow.parked.edited.v1"
    kind: ClassVar[str] = "edited"
    event: dict[str, Any]
    fields: tuple[str, ...] = ()


class ParkedEventDiscarded(ParkedEventAction):
    type: ClassVar[str] = "dev.orderflow.parked.discarded.v1"
    kind: ClassVar[str] = "discarded"
    reason: Text


class ParkedEventAnnounced(ParkedEventAction):
    """The change that a parked status event announces is announced anew, as the order's history has the change."""

    type: ClassVar[str] = "dev.orderflow.parked.announced.v1"
    kind: ClassVar[str] = "announced"


class WaitingExtended(Action):
    """Events that wait for something to happen to the order may wait for so many hours more."""

    type: ClassVar[str] = "dev.orderflow.waiting.extended.v1"
    kind: ClassVar[str] = "extended"
    hours: Annotated[float, Field(gt=0, le=MAX_HOURS)]


class OrderActionAsked(Action):
    """Records that an operator sent an order's event, which itself went to the inbox. The ledger stores neither the
    operator's name nor the reason of an event that is refused."""

    type: ClassVar[str] = "dev.orderflow.action.asked.v1"
    kind: ClassVar[str] = "asked"
    asked: Annotated[str, StringConstraints(pattern="^(held|released|cancelled)$")]
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]


MODELS: Final[dict[str, type[Action]]] = {
    model.type: model
    for model in (
        ParkedEventReplayed,
        ParkedEventEdited,
        ParkedEventDiscarded,
        ParkedEventAnnounced,
        WaitingExtended,
        OrderActionAsked,
    )
}


def is_action(event_type: str) -> bool:
    return event_type in MODELS


def read(event: CloudEvent) -> Action:
    """Raises PoisonError where the event is not an action, or its data does not fit its type."""
    model = MODELS.get(event.type)
    if model is None:
        raise PoisonError(Reason("type_unknown", "type", "this is not an operator's action"))
    return parse(model, event.data)


def action_id(request_id: str, target: str) -> str:
    """target tells the actions of one request apart: the id of a parked event or order, or what record_of() and
    extend() derive from it."""
    return derived_id("action", request_id, target)


def replay(parked: ParkedEvent, request: ActionRequest, *, late: bool = False) -> CloudEvent:
    values = {"parked_id": parked.id, "late": late or None}
    return _event(parked.order_id, parked.id, request, ParkedEventReplayed, values)


def discard(parked: ParkedEvent, request: ActionRequest) -> CloudEvent:
    return _event(parked.order_id, parked.id, request, ParkedEventDiscarded, {"parked_id": parked.id})


def announce(parked: ParkedEvent, request: ActionRequest) -> CloudEvent:
    return _event(parked.order_id, parked.id, request, ParkedEventAnnounced, {"parked_id": parked.id})


def edit(
    parked: ParkedEvent,
    request: ActionRequest,
    event: dict[str, Any],
    fields: tuple[str, ...],
    *,
    late: bool = False,
) -> CloudEvent:
    values = {"parked_id": parked.id, "event": event, "fields": fields, "late": late or None}
    return _event(parked.order_id, parked.id, request, ParkedEventEdited, values)


def extend(order_id: str, request: ActionRequest, hours: float) -> CloudEvent:
    return _event(order_id, f"waiting of {order_id}", request, WaitingExtended, {"hours": hours})


def order_event(kind: str, order_id: str, request: ActionRequest) -> CloudEvent:
    """The inbox event that holds, releases or cancels an order. kind is the event's, such as `held`."""
    fact = _parsed(UPDATES[kind], {"by": request.by, "reason": request.reason})
    return CloudEvent(
        type=type_of(kind),
        source=SOURCE,
        id=action_id(request.id, order_id),
        subject=order_id,
        time=request.time,
        data=fact.model_dump_json(exclude_none=True).encode(),
        extensions={"partitionkey": order_id},
    )


def record_of(event: CloudEvent, kind: str, request: ActionRequest) -> CloudEvent:
    """The action that records the operator's name and reason for an order's event."""
    values = {"asked": kind, "event_id": event.id}
    return _event(event.subject, f"record of {event.id}", request, OrderActionAsked, values)


def _event(
    order_id: str, target: str, request: ActionRequest, model: type[Action], values: dict[str, Any]
) -> CloudEvent:
    action = _parsed(model, {"request": request.id, "by": request.by, "reason": request.reason} | values)
    return CloudEvent(
        type=model.type,
        source=SOURCE,
        id=action_id(request.id, target),
        subject=order_id,
        time=request.time,
        data=action.model_dump_json(exclude_none=True).encode(),
        extensions={"partitionkey": order_id} if order_id else {},
    )


def _parsed(model: type[M], values: dict[str, Any]) -> M:
    """Raises PoisonError naming the field at fault, as for an event from outside."""
    present = {name: value for name, value in values.items() if value is not None}
    return parse(model, json.dumps(present).encode())
