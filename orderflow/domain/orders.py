"""An order as a storefront places it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from orderflow.domain.money import Amount, Currency

ORDER_ID_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

# A name or an address has no control characters, and PostgreSQL cannot store U+0000.
_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]*$"

Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200, pattern=_NO_CONTROLS)]
ShortText = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64, pattern=_NO_CONTROLS)]
Email = Annotated[
    str,
    StringConstraints(
        strict=True, max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f,;<>]+@[^@\s\x00-\x1f\x7f,;<>]+$"
    ),
]
Country = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Z]{2}$")]
OrderId = Annotated[str, StringConstraints(strict=True, pattern=rf"^{ORDER_ID_PATTERN}$")]

MAX_LINES: Final = 1000
MAX_QUANTITY: Final = 1_000_000


def _sorted(metadata: dict[str, str]) -> dict[str, str]:
    """The members of a JSON object have no sequence, but an order that is sent twice must have one digest."""
    return dict(sorted(metadata.items()))


class Frozen(BaseModel):
    """An immutable value. An unknown field in its input is an error that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(Frozen):
    sku: ShortText
    name: Text | None = None
    quantity: Annotated[int, Field(strict=True, ge=1, le=MAX_QUANTITY)]
    unit_price: Amount


class Address(Frozen):
    name: Text
    line1: Text
    line2: Text | None = None
    city: Text
    region: Text | None = None
    postcode: ShortText | None = None
    country: Country


class Customer(Frozen):
    name: Text
    email: Email


class Order(Frozen):
    """What was bought, by whom, and for how much. Amounts are in minor units of the currency."""

    order_id: OrderId | None = None
    currency: Currency
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=MAX_LINES)]
    shipping: Amount = 0
    tax: Amount = 0
    discount: Amount = 0
    total: Amount
    customer: Customer
    shipping_address: Address
    billing_address: Address | None = None
    metadata: Annotated[dict[ShortText, Text], Field(max_length=50), AfterValidator(_sorted)] = Field(
        default_factory=dict
    )

    def computed_total(self) -> int:
        """The only total that is valid, in minor units: lines + shipping + tax - discount."""
        lines = sum(line.quantity * line.unit_price for line in self.lines)
        return lines + self.shipping + self.tax - self.discount
