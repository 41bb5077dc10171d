"""The shop's rules: data that a shop changes without code, and the verdict on an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from orderflow.domain.authority import Authority
from orderflow.domain.deadlines import GapLimits, StuckLimits
from orderflow.domain.events import UPDATES, OrderAccepted, OrderRejected, OrderReviewed, Verdict
from orderflow.domain.money import MAX_AMOUNT, Amount, Currency, show
from orderflow.domain.orders import MAX_LINES, MAX_QUANTITY, Country, Frozen, Order, ShortText
from orderflow.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator


Hours = Annotated[float, Field(gt=0, le=24 * 366)]


class Limits(Frozen):
    """Upper bounds. Totals are in minor units, by currency; a currency that is not listed has no bound."""

    lines: Annotated[int, Field(ge=1, le=MAX_LINES)] = MAX_LINES
    quantity_per_line: Annotated[int, Field(ge=1, le=MAX_QUANTITY)] = MAX_QUANTITY
    order_total: dict[Currency, Amount] = Field(default_factory=dict)


class Article(Frozen):
    """One entry of the catalogue. Prices are in minor units, by currency; other currencies are not checked."""

    prices: dict[Currency, Amount] = Field(default_factory=dict)
    in_stock: bool = True


class Waiting(Frozen):
    """How many hours an event waits for the event that must come before it, until it is parked. by_kind overrides
    hours for some kinds of event. per_order is how many events may wait for one order; further ones are parked at
    once."""

    hours: Hours = 72.0
    per_order: Annotated[int, Field(ge=1, le=10_000)] = 100
    by_kind: dict[str, Hours] = Field(default_factory=dict)

    @field_validator("by_kind")
    @classmethod
    def _kinds_are_known(cls, by_kind: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(by_kind.keys() - UPDATES.keys()):
            raise ValueError(f"{unknown[0]} is no kind of event that waits; these are: {', '.join(UPDATES)}")
        return by_kind

    def hours_of(self, kind: str) -> float:
        return self.by_kind.get(kind, self.hours)


class Rules(Frozen):
    """An empty list or table does not restrict. review: an order whose total reaches the threshold of its currency is
    held for review."""

    currencies: frozenset[Currency] = frozenset()
    countries: frozenset[Country] = frozenset()
    limits: Limits = Limits()
    review: dict[Currency, Amount] = Field(default_factory=dict)
    catalogue: dict[ShortText, Article] = Field(default_factory=dict)
    waiting: Waiting = Waiting()
    stuck: StuckLimits = StuckLimits()
    gaps: GapLimits = GapLimits()
    authority: Authority = Authority()

    def judge(self, order: Order) -> Verdict:
        """Accepts the order, rejects it with every reason, or holds it for review."""
        faults = tuple(self._faults(order))
        if faults:
            return OrderRejected.model_construct(order=order, reasons=faults)
        threshold = self.review.get(order.currency)
        if threshold is not None and order.total >= threshold:
            reason = Reason(
                "review",
                "total",
                f"orders of {show(threshold, order.currency)} and more are looked at by a person",
            )
            return OrderReviewed.model_construct(order=order, reasons=(reason,))
        return OrderAccepted.model_construct(order=order)

    def _faults(self, order: Order) -> Iterator[Reason]:
        computed = order.computed_total()
        if computed != order.total:
            yield Reason("total_mismatch", "total", f"the parts add up to {show(computed, order.currency)}")
        if computed > MAX_AMOUNT or computed < 0:
            yield Reason(
                "total_out_of_range", "total", "the parts add up to less than nothing or to too much"
            )
        if self.currencies and order.currency not in self.currencies:
            yield Reason("currency_not_sold", "currency", "the shop does not sell in this currency")
        if self.countries and order.shipping_address.country not in self.countries:
            yield Reason(
                "country_not_served", "shipping_address.country", "the shop does not ship to this country"
            )
        limit = self.limits.order_total.get(order.currency)
        if limit is not None and order.total > limit:
            yield Reason(
                "total_over_limit", "total", f"an order may come to {show(limit, order.currency)} at most"
            )
        if len(order.lines) > self.limits.lines:
            yield Reason("too_many_lines", "lines", f"an order may have {self.limits.lines} lines at most")
        for number, line in enumerate(order.lines):
            if line.quantity > self.limits.quantity_per_line:
                yield Reason(
                    "quantity_over_limit",
                    f"lines.{number}.quantity",
                    f"a line may have {self.limits.quantity_per_line} pieces at most",
                )
            if self.catalogue:
                yield from self._catalogue_faults(order, number)

    def _catalogue_faults(self, order: Order, number: int) -> Iterator[Reason]:
        line = order.lines[number]
        article = self.catalogue.get(line.sku)
        if article is None:
            yield Reason("sku_unknown", f"lines.{number}.sku", "the catalogue does not have this article")
            return
        if not article.in_stock:
            yield Reason("out_of_stock", f"lines.{number}.sku", "this article is out of stock")
        price = article.prices.get(order.currency)
        if price is not None and price != line.unit_price:
            yield Reason(
                "price_changed",
                f"lines.{number}.unit_price",
                f"the article costs {show(price, order.currency)}",
            )
