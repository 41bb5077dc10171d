"""Takes what operators ask for: checks it against what is known, and publishes it as events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from orderflow.actions import events, resend
from orderflow.domain.orders import Frozen, OrderId
from orderflow.errors import ConflictError, PoisonError, Reason, UnknownError
from orderflow.messaging import topics
from orderflow.shelve.handler import not_open

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from orderflow.actions.events import Request
    from orderflow.actions.resend import Letter
    from orderflow.messaging.cloudevent import Envelope

    class Book(Protocol):
        """What is known; orderflow.query.store.reader.Reader says more."""

        def has_order(self, order_id: str) -> bool: ...
        def letters(self, wanted: Selection, most: int) -> list[Letter]: ...
        def done(self, request: str) -> Sequence[str]: ...


MOST_AT_ONCE: Final = 1000

Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9._-]*$")]
LetterId = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9-]+$")]


class Selection(Frozen):
    """Which parked events: those named, an order's open ones, or a stage's open ones of one reason."""

    ids: Annotated[tuple[LetterId, ...], Field(max_length=MOST_AT_ONCE)] = ()
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
        """Which of the three ways it is."""
        if self.ids:
            return "ids"
        return "order" if self.order is not None else "code"


@dataclass(frozen=True, slots=True)
class Taken:
    """An action that was published. event_id is that of an order's event, which the ledger will know."""

    id: str
    order_id: str
    parked_id: str = ""
    event_type: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """A letter on which nothing was done, and why."""

    parked_id: str
    order_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Receipt:
    """more: letters that were not looked at, since there are more than go at once."""

    request: str
    kind: str
    taken: list[Taken] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    more: bool = False


class Desk:
    """publish returns when all events are confirmed. What has raised UnavailableError may be asked for again with
    the same request, as often as it takes."""

    def __init__(self, book: Book, publish: Callable[[str, Sequence[Envelope]], None]) -> None:
        self._book = book
        self._publish = publish

    def order(self, verb: str, order_id: str, asked: Request) -> Receipt:
        """verb is hold, release or cancel. Raises UnknownError where there is no such order."""
        kind = events.ORDER_KINDS[verb]
        self._must_know(order_id)
        event = events.order_event(kind, order_id, asked)
        self._publish(topics.INBOX, [event])
        record = events.record_of(event, kind, asked)
        self._publish(topics.PARKED, [record])
        return Receipt(asked.id, kind, [Taken(record.id, order_id, event_type=event.type, event_id=event.id)])

    def extend(self, order_id: str, hours: float, asked: Request) -> Receipt:
        """Raises UnknownError where there is no such order."""
        self._must_know(order_id)
        event = events.extend(order_id, asked, hours)
        self._publish(topics.PARKED, [event])
        return Receipt(asked.id, "extended", [Taken(event.id, order_id)])

    def replay(self, wanted: Selection, asked: Request, *, dry_run: bool = False) -> Receipt:
        """Replays what can be replayed, in the order in which it happened, and says what cannot."""
        found = self._book.letters(wanted, MOST_AT_ONCE + 1)
        done = set(self._book.done(asked.id))
        receipt = Receipt(asked.id, "replayed", more=len(found) > MOST_AT_ONCE)
        for parked_id in sorted(set(wanted.ids) - {letter.id for letter in found}):
            receipt.left.append(
                Left(parked_id, "", Reason("unknown", "ids", "there is no such parked event"))
            )
        published = []
        for letter in resend.in_order(found[:MOST_AT_ONCE]):
            event = events.replay(letter, asked)
            try:
                if letter.id not in done:
                    _must_be_open(letter)
                resend.replayed(letter, event.id)
            except PoisonError as error:
                receipt.left.append(Left(letter.id, letter.order_id, error.reasons[0]))
                continue
            published.append(event)
            receipt.taken.append(_taken(letter, event))
        if not dry_run:
            self._publish(topics.PARKED, published)
        return receipt

    def edit(
        self, parked_id: str, changes: dict[str, Any], written: dict[str, Any] | None, asked: Request
    ) -> Receipt:
        """Sends a letter with changes by path, or written anew. Raises PoisonError naming the fields at fault."""
        letter = self._open_letter(parked_id, asked)
        before = resend.document(letter)
        after = resend.changed(written if written is not None else before, changes)
        fields = tuple(resend.differing(before, after)[:50])
        event = events.edit(letter, asked, after, fields)
        resend.edited(letter, after, event.id)
        self._publish(topics.PARKED, [event])
        return Receipt(asked.id, "edited", [_taken(letter, event)])

    def discard(self, parked_id: str, asked: Request) -> Receipt:
        letter = self._open_letter(parked_id, asked)
        event = events.discard(letter, asked)
        self._publish(topics.PARKED, [event])
        return Receipt(asked.id, "discarded", [_taken(letter, event)])

    def letter(self, parked_id: str) -> Letter:
        """Raises UnknownError where there is none."""
        try:
            found = self._book.letters(Selection(ids=(parked_id,)), 1)
        except ValidationError:  # no id of ours looks like that
            found = []
        if not found:
            raise UnknownError("there is no such parked event")
        return found[0]

    def _open_letter(self, parked_id: str, asked: Request) -> Letter:
        found = self.letter(parked_id)
        if found.state != "open" and parked_id not in self._book.done(asked.id):
            raise ConflictError(not_open(found).text)
        return found

    def _must_know(self, order_id: str) -> None:
        if not self._book.has_order(order_id):
            raise UnknownError("there is no such order")


def _must_be_open(letter: Letter) -> None:
    if letter.state != "open":
        raise PoisonError(not_open(letter))


def _taken(letter: Letter, event: Envelope) -> Taken:
    return Taken(event.id, letter.order_id, letter.id, letter.attributes.get("type", ""))
