"""The events of an order: frozen facts in the past tense, and their CloudEvent types."""

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
    """The kind in a CloudEvent type, `dev.orderflow.order.paid.v1` -> `paid`; None where the type is not an order's."""
    if event_type.startswith(TYPE_PREFIX) and event_type.endswith(TYPE_SUFFIX):
        return event_type[len(TYPE_PREFIX) : -len(TYPE_SUFFIX)]
    return None


class Fact(Frozen):
    """The data of an event. `by` names the operator or the system that caused the event, never a customer."""

    kind: ClassVar[str]
    by: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9@._-]+$")] | None = None


class OrderPlaced(Order):
    kind: ClassVar[str] = "placed"


class Verdict(Fact):
    """The result of validating a placed order."""

    order: Order
    reasons: tuple[Reason, ...] = ()


class OrderAccepted(Verdict):
    kind: ClassVar[str] = "accepted"


class OrderRejected(Verdict):
    kind: ClassVar[str] = "rejected"


class OrderReviewed(Verdict):
    """Validation held the order for review by a person. On the wire it is a held event that has the order."""

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
"""The events that a shop, a payment provider, a warehouse or an operator may send, by kind."""

VERDICTS: Final[dict[str, type[Verdict]]] = {
    model.kind: model for model in (OrderAccepted, OrderRejected, OrderReviewed)
}

_MAX_REASONS: Final = 100
"""Without a limit, a megabyte of unknown fields would give a hundred thousand reasons."""

_TEXTS: Final = {
    "string_pattern_mismatch": "this text has a form or a character that is not allowed here",
    "recursion_loop": "this is nested too deeply",
}
"""Texts by pydantic's error type, in place of pydantic's own, which would show the sender a regular expression."""


def parse(model: type[Model], data: bytes) -> Model:
    """The JSON in data as the model.

    Raises PoisonError with a reason for each fault, at most 100: code, path of the field, text. No reason quotes a
    value of the input.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise PoisonError(*map(_reason, faults[:_MAX_REASONS])) from None


def _reason(fault: ErrorDetails) -> Reason:
    """The path of an unknown field contains the sender's own text, so the path is cut and made printable."""
    code = fault["type"]
    path = ".".join(str(part) for part in fault["loc"])[:200]
    printable = path if path.isprintable() else ascii(path)[1:-1][:200]
    return Reason(code=code, field=printable, text=_TEXTS.get(code, fault["msg"]))
