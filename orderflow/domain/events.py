"""What can happen to an order: frozen facts in the past tense, and their CloudEvent types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Final, TypeVar, get_args

from pydantic import Field, StringConstraints, ValidationError

from orderflow.domain.money import Amount, Currency
from orderflow.domain.orders import Frozen, Order, Text
from orderflow.errors import PoisonError, Reason

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=Frozen)

TYPE_PREFIX: Final = "dev.orderflow.order."
TYPE_SUFFIX: Final = ".v1"


def type_of(kind: str) -> str:
    return f"{TYPE_PREFIX}{kind}{TYPE_SUFFIX}"


def kind_of(event_type: str) -> str | None:
    """The kind in a CloudEvent type, `dev.orderflow.order.paid.v1` -> `paid`; None for a foreign type."""
    if event_type.startswith(TYPE_PREFIX) and event_type.endswith(TYPE_SUFFIX):
        return event_type[len(TYPE_PREFIX) : -len(TYPE_SUFFIX)]
    return None


class Fact(Frozen):
    """The data of an event. `by` is who did it: an operator's or a system's name, no customer's."""

    kind: ClassVar[str]
    by: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9@._-]+$")] | None = None


class OrderPlaced(Order):
    kind: ClassVar[str] = "placed"


class Verdict(Fact):
    """What validation made of a placed order."""

    order: Order
    reasons: tuple[Reason, ...] = ()


class OrderAccepted(Verdict):
    kind: ClassVar[str] = "accepted"


class OrderRejected(Verdict):
    kind: ClassVar[str] = "rejected"


class OrderReviewed(Verdict):
    """Validation held the order for a person to look at; on the wire it is a held event with the order."""

    kind: ClassVar[str] = "held"


class OrderHeld(Fact):
    kind: ClassVar[str] = "held"
    reason: Text | None = None


class OrderReleased(Fact):
    kind: ClassVar[str] = "released"
    reason: Text | None = None


class OrderCancelled(Fact):
    kind: ClassVar[str] = "cancelled"
    reason: Text | None = None


class PaymentFact(Fact):
    amount: Annotated[Amount, Field(gt=0)]
    currency: Currency
    reference: Text | None = None


class OrderAuthorised(PaymentFact):
    kind: ClassVar[str] = "authorised"


class OrderPaid(PaymentFact):
    kind: ClassVar[str] = "paid"


class OrderRefunded(PaymentFact):
    kind: ClassVar[str] = "refunded"


class OrderDeclined(Fact):
    kind: ClassVar[str] = "declined"
    reason: Text | None = None
    reference: Text | None = None


class OrderPacked(Fact):
    kind: ClassVar[str] = "packed"


class OrderShipped(Fact):
    kind: ClassVar[str] = "shipped"
    carrier: Text | None = None
    tracking: Text | None = None


class OrderDelivered(Fact):
    kind: ClassVar[str] = "delivered"


class OrderReturned(Fact):
    kind: ClassVar[str] = "returned"
    reason: Text | None = None


Update = (
    OrderHeld
    | OrderReleased
    | OrderCancelled
    | OrderAuthorised
    | OrderPaid
    | OrderRefunded
    | OrderDeclined
    | OrderPacked
    | OrderShipped
    | OrderDelivered
    | OrderReturned
)
UPDATES: Final[dict[str, type[Update]]] = {model.kind: model for model in get_args(Update)}
INBOX: Final[dict[str, type[OrderPlaced | Update]]] = {"placed": OrderPlaced, **UPDATES}
"""What a shop, a payment provider, a warehouse or an operator may send."""

VERDICTS: Final[dict[str, type[Verdict]]] = {
    model.kind: model for model in (OrderAccepted, OrderRejected, OrderReviewed)
}

# pydantic's own sentence would show a regular expression to whoever sent the order.
_MOST_REASONS: Final = 100
"""A megabyte of unknown fields would give a hundred thousand."""

_SENTENCES: Final = {
    "string_pattern_mismatch": "this text has a form or a character that is not allowed here",
    "recursion_loop": "this is nested too deeply",
}


def parse(model: type[Model], data: bytes) -> Model:
    """The JSON in data as the model.

    Raises PoisonError with every fault, 100 at most: its code, the path of its field, a sentence. No fault
    quotes a value of the input.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise PoisonError(*map(_reason, faults[:_MOST_REASONS])) from None


def _reason(fault: ErrorDetails) -> Reason:
    """The path of an unknown field has the sender's own words in it, so it is cut and made printable."""
    code = fault["type"]
    path = ".".join(str(part) for part in fault["loc"])[:200]
    shown = path if path.isprintable() else ascii(path)[1:-1][:200]
    return Reason(code=code, field=shown, text=_SENTENCES.get(code, fault["msg"]))
