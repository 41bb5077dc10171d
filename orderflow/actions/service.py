"""Operators' actions: checks a request against the database, and publishes it as events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from orderflow.actions import events, json_document, resend
from orderflow.actions.parked_event import in_order, not_open
from orderflow.domain.orders import Frozen, OrderId
from orderflow.errors import ConflictError, NotFoundError, PoisonError, Reason
from orderflow.messaging import topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from orderflow.actions.events import ActionRequest
    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.messaging.cloudevent import CloudEvent

    class ActionReader(Protocol):
        """The port to orderflow.query.store.reader.Reader."""

        def has_order(self, order_id: str) -> bool: ...
        def parked_events(self, selection: Selection, limit: int) -> list[ParkedEvent]: ...
        def parked_ids_of(self, request_id: str) -> Sequence[str]: ...


MAX_AT_ONCE: Final = 1000
"""Of the parked events that one request replays."""
_MAX_FIELDS: Final = 50

Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9._-]*$")]
ParkedEventId = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9-]+$")]


class Selection(Frozen):
    """Which parked events: those with the given ids, the open ones of an order, or the open ones of a stage that were
    parked for one reason."""

    ids: Annotated[tuple[ParkedEventId, ...], Field(max_length=MAX_AT_ONCE)] = ()
    order: OrderId | None = None
    stage: Name = ""
    code: Name = ""

    @model_validator(mode="after")
    def _one_way(self) -> Selection:
        ways = [bool(self.ids), self.order is not None, bool(self.stage or self.code)]
        if sum(ways) != 1 or bool(self.stage) != bool(self.code):
            raise PydanticCustomError(
                "selection_invalid", "name either ids, or an order, or both a stage and a code"
            )
        return self

    @property
    def by(self) -> str:
        if self.ids:
            return "ids"
        return "order" if self.order is not None else "code"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An action that was published. event_id is the id of an order's event, under which the ledger stores it."""

    id: str
    order_id: str
    parked_id: str = ""
    event_type: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A parked event for which no action was published, and why."""

    parked_id: str
    order_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Receipt:
    """more: the selection has further parked events, beyond the number that one request handles. The names of the
    fields are those of the API."""

    request: str
    kind: str
    taken: list[Accepted] = field(default_factory=list)
    left: list[Skipped] = field(default_factory=list)
    more: bool = False


class OperatorActions:
    """publish returns when Kafka has confirmed all events. A request that raised TransientError may be repeated under
    the same id until it succeeds."""

    def __init__(self, reader: ActionReader, publish: Callable[[str, Sequence[CloudEvent]], None]) -> None:
        self._reader = reader
        self._publish = publish

    def order(self, verb: str, order_id: str, request: ActionRequest) -> Receipt:
        """verb is hold, release or cancel. Raises NotFoundError where there is no such order."""
        kind = events.ORDER_KINDS[verb]
        self._require_order(order_id)
        event = events.order_event(kind, order_id, request)
        self._publish(topics.INBOX, [event])
        record = events.record_of(event, kind, request)
        self._publish(topics.PARKED, [record])
        accepted = Accepted(record.id, order_id, event_type=event.type, event_id=event.id)
        return Receipt(request.id, kind, [accepted])

    def extend(self, order_id: str, hours: float, request: ActionRequest) -> Receipt:
        """Raises NotFoundError where there is no such order."""
        self._require_order(order_id)
        event = events.extend(order_id, request, hours)
        self._publish(topics.PARKED, [event])
        return Receipt(request.id, "extended", [Accepted(event.id, order_id)])

    def replay(self, selection: Selection, request: ActionRequest, *, dry_run: bool = False) -> Receipt:
        """Replays what can be replayed, in the order in which the events happened, and says what is skipped and why.
        With dry_run nothing is published."""
        parked_events = self._reader.parked_events(selection, MAX_AT_ONCE + 1)
        already_replayed = set(self._reader.parked_ids_of(request.id))
        receipt = Receipt(request.id, "replayed", more=len(parked_events) > MAX_AT_ONCE)
        for parked_id in sorted(set(selection.ids) - {parked.id for parked in parked_events}):
            receipt.left.append(
                Skipped(parked_id, "", Reason("unknown", "ids", "there is no such parked event"))
            )
        actions = []
        for parked in in_order(parked_events[:MAX_AT_ONCE]):
            action = events.replay(parked, request)
            try:
                if parked.id not in already_replayed:
                    _require_open(parked)
                resend.original_event(parked, action.id)
            except PoisonError as error:
                receipt.left.append(Skipped(parked.id, parked.order_id, error.reasons[0]))
                continue
            actions.append(action)
            receipt.taken.append(_accepted(parked, action))
        if not dry_run:
            self._publish(topics.PARKED, actions)
        return receipt

    def edit(
        self,
        parked_id: str,
        changes: dict[str, Any],
        replacement: dict[str, Any] | None,
        request: ActionRequest,
    ) -> Receipt:
        """Sends a parked event with changes by path, made to the event or to its replacement. Raises PoisonError naming
        the fields at fault."""
        parked = self._open_parked_event(parked_id, request)
        before = resend.document(parked)
        after = json_document.changed(replacement if replacement is not None else before, changes)
        fields = tuple(json_document.differences(before, after)[:_MAX_FIELDS])
        action = events.edit(parked, request, after, fields)
        resend.edited_event(parked, after, action.id)
        self._publish(topics.PARKED, [action])
        return Receipt(request.id, "edited", [_accepted(parked, action)])

    def discard(self, parked_id: str, request: ActionRequest) -> Receipt:
        parked = self._open_parked_event(parked_id, request)
        action = events.discard(parked, request)
        self._publish(topics.PARKED, [action])
        return Receipt(request.id, "discarded", [_accepted(parked, action)])

    def parked_event(self, parked_id: str) -> ParkedEvent:
        """Raises NotFoundError where there is none."""
        try:
            parked_events = self._reader.parked_events(Selection(ids=(parked_id,)), 1)
        except ValidationError:  # not an id that this system makes
            parked_events = []
        if not parked_events:
            raise NotFoundError("there is no such parked event")
        return parked_events[0]

    def _open_parked_event(self, parked_id: str, request: ActionRequest) -> ParkedEvent:
        parked = self.parked_event(parked_id)
        if parked.state != "open" and parked_id not in self._reader.parked_ids_of(request.id):
            raise ConflictError(not_open(parked).text)
        return parked

    def _require_order(self, order_id: str) -> None:
        if not self._reader.has_order(order_id):
            raise NotFoundError("there is no such order")


def _require_open(parked: ParkedEvent) -> None:
    if parked.state != "open":
        raise PoisonError(not_open(parked))


def _accepted(parked: ParkedEvent, action: CloudEvent) -> Accepted:
    return Accepted(action.id, parked.order_id, parked.id, parked.attributes.get("type", ""))
