"""Scenarios of orders, as a shop, its payment provider and its warehouse cause them; some are faulty or odd. Pure."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.events import type_of
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.messages import Message, OrderScenario, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

SHOP: Final = "/shop/web"
PAYMENTS: Final = "/payments/acme"
WAREHOUSE: Final = "/warehouse/one"

_ARTICLES: Final = [
    ("MUG-BLUE", "Blue mug", 1290),
    ("TEAPOT-1L", "Teapot, 1 litre", 3450),
    ("TRAY-OAK", "Oak tray", 2790),
    ("TEA-ASSAM", "Assam, 250 g", 890),
    ("KETTLE-S", "Small kettle", 8900),
]
_NAMES: Final = [
    "Ada Lovelace",
    "Alan Turing",
    "Grace Hopper",
    "Edsger Dijkstra",
    "Barbara Liskov",
    "Niklaus Wirth",
]
_CITIES: Final = [("Berlin", "DE"), ("Vienna", "AT"), ("Lyon", "FR"), ("Utrecht", "NL"), ("Bologna", "IT")]


_ORDER_TRANSPORTS: Final = [
    Transport.PLAIN,
    Transport.PLAIN,
    Transport.BINARY,
    Transport.STRUCTURED,
    Transport.KAFKA,
]
"""A plain order is twice as likely as each other one."""


@dataclass(slots=True)
class _Draft:
    """An order while its scenario is made. `at` is the time of its newest event."""

    rng: random.Random
    order_id: str
    at: datetime
    data: dict[str, Any] = field(default_factory=dict)

    def event(
        self, kind: str, source: str, data: dict[str, Any] | None = None, *, suffix: str = ""
    ) -> CloudEvent:
        self.at += timedelta(minutes=self.rng.randint(1, 90))
        return CloudEvent(
            type=type_of(kind),
            source=source,
            id=f"{self.order_id}-{kind}{suffix}",
            subject=self.order_id,
            time=self.at.isoformat().replace("+00:00", "Z"),
            data=json.dumps(data or {}, separators=(",", ":")).encode(),
        )

    def placed(self) -> Message:
        event = self.event("placed", SHOP, self.data)
        transport = self.rng.choice(_ORDER_TRANSPORTS)
        if transport is Transport.PLAIN:
            document = {"order_id": self.order_id} | self.data
            return Message(
                transport, replace(event, data=json.dumps(document).encode()), key=f"key-{self.order_id}"
            )
        return Message(transport, event)

    def paid(self, *, suffix: str = "") -> Message:
        money = {
            "amount": self.data["total"],
            "currency": self.data["currency"],
            "reference": f"ch_{self.order_id}",
        }
        return Message(Transport.KAFKA, self.event("paid", PAYMENTS, money, suffix=suffix))

    def refunded(self, amount: int, *, suffix: str = "") -> Message:
        money = {"amount": amount, "currency": self.data["currency"]}
        return Message(Transport.KAFKA, self.event("refunded", PAYMENTS, money, suffix=suffix))

    def from_warehouse(self, kind: str, data: dict[str, Any] | None = None) -> Message:
        return Message(Transport.KAFKA, self.event(kind, WAREHOUSE, data))

    def shipped(self) -> Message:
        return self.from_warehouse(
            "shipped", {"carrier": "DHL", "tracking": f"JD{self.rng.randrange(10**10):010}"}
        )

    def cancelled(self) -> Message:
        transport = self.rng.choice([Transport.BINARY, Transport.STRUCTURED])
        return Message(transport, self.event("cancelled", SHOP, {"reason": "changed my mind"}))


def _order(rng: random.Random) -> dict[str, Any]:
    chosen = [(article, rng.randint(1, 3)) for article in rng.sample(_ARTICLES, rng.randint(1, 3))]
    lines = [
        {"sku": sku, "name": name, "quantity": quantity, "unit_price": price}
        for (sku, name, price), quantity in chosen
    ]
    name = rng.choice(_NAMES)
    city, country = rng.choice(_CITIES)
    shipping = rng.choice([0, 490])
    goods = sum(price * quantity for (_, _, price), quantity in chosen)
    return {
        "currency": "EUR",
        "lines": lines,
        "shipping": shipping,
        "total": goods + shipping,
        "customer": {
            "name": name,
            "email": f"{name.split()[0].lower()}{rng.randrange(10**6)}@customer.example",
        },
        "shipping_address": {"name": name, "line1": f"{rng.randint(1, 99)} Long Street", "city": city}
        | {"country": country},
    }


def _delivered(draft: _Draft, name: str = "delivered") -> OrderScenario:
    steps = (draft.placed(), draft.paid(), draft.from_warehouse("packed"), draft.shipped())
    return OrderScenario(
        name, draft.order_id, (*steps, draft.from_warehouse("delivered")), ("delivered", "paid")
    )


def _shipped(draft: _Draft) -> OrderScenario:
    steps = (draft.placed(), draft.paid(), draft.from_warehouse("packed"), draft.shipped())
    return OrderScenario("on its way", draft.order_id, steps, ("shipped", "paid"))


def _unpaid(draft: _Draft) -> OrderScenario:
    return OrderScenario("not paid yet", draft.order_id, (draft.placed(),), ("accepted", "unpaid"))


def _twice(draft: _Draft) -> OrderScenario:
    """Every message is sent twice, as by a client that got no response."""
    scenario = _delivered(draft)
    twice = tuple(copy for message in scenario.messages for copy in (message, message))
    return replace(scenario, name="everything twice", messages=twice)


def _out_of_order(draft: _Draft) -> OrderScenario:
    scenario = _delivered(draft)
    shuffled = list(scenario.messages)
    draft.rng.shuffle(shuffled)
    # Packed after shipped would be stale. Without it the end is the same for every sequence.
    messages = tuple(message for message in shuffled if "packed" not in message.event.type)
    return replace(scenario, name="out of order", messages=messages)


def _declined_then_paid(draft: _Draft) -> OrderScenario:
    declined = Message(Transport.KAFKA, draft.event("declined", PAYMENTS, {"reason": "insufficient funds"}))
    return OrderScenario(
        "declined, then paid", draft.order_id, (draft.placed(), declined, draft.paid()), ("accepted", "paid")
    )


def _cancelled(draft: _Draft) -> OrderScenario:
    return OrderScenario(
        "cancelled", draft.order_id, (draft.placed(), draft.cancelled()), ("cancelled", "unpaid")
    )


def _paid_too_late(draft: _Draft) -> OrderScenario:
    steps = (draft.placed(), draft.cancelled(), draft.paid())
    return OrderScenario("late payment of a cancelled order", draft.order_id, steps, ("cancelled", "paid"))


def _returned(draft: _Draft) -> OrderScenario:
    scenario = _delivered(draft)
    half = draft.data["total"] // 2
    after = (
        draft.from_warehouse("returned", {"reason": "broken"}),
        draft.refunded(half, suffix="-1"),
        draft.refunded(draft.data["total"] - half, suffix="-2"),
    )
    return OrderScenario(
        "returned, refunded in two parts", draft.order_id, scenario.messages + after, ("returned", "refunded")
    )


def _too_late_to_cancel(draft: _Draft) -> OrderScenario:
    steps = (draft.placed(), draft.paid(), draft.shipped(), draft.cancelled())
    return OrderScenario("cancelled after it left", draft.order_id, steps, ("shipped", "paid"), parked=1)


def _held(draft: _Draft) -> OrderScenario:
    lines = [{"sku": "KETTLE-S", "name": "Small kettle", "quantity": 20, "unit_price": 8900}]
    draft.data |= {"lines": lines, "shipping": 0, "total": 178_000}
    return OrderScenario("held for review", draft.order_id, (draft.placed(),), ("held", "unpaid"))


def _rejected(draft: _Draft) -> OrderScenario:
    draft.data["shipping_address"] |= {"country": "NZ", "city": "Wellington"}
    draft.data["lines"][0]["quantity"] = 600
    draft.data["total"] += 1
    return OrderScenario("rejected, three reasons", draft.order_id, (draft.placed(),), ("rejected", "unpaid"))


def _malformed(draft: _Draft) -> OrderScenario:
    draft.data["total"] = -5
    event = draft.event("placed", SHOP, draft.data)
    if draft.rng.random() < 0.5:  # noqa: PLR2004 - a coin
        return OrderScenario(
            "malformed, over HTTP", draft.order_id, (Message(Transport.BINARY, event, refusal=400),), None
        )
    return OrderScenario(
        "malformed, over Kafka", draft.order_id, (Message(Transport.KAFKA, event),), None, parked=1
    )


def _no_cloudevent(draft: _Draft) -> OrderScenario:
    body = draft.rng.choice([b"{not json", b"\x00\xff\xfe", b'{"hello":"world"}'])
    event = CloudEvent("", "", "", subject=draft.order_id, data=body)
    return OrderScenario(
        "no CloudEvent at all", draft.order_id, (Message(Transport.RAW, event),), None, parked=1
    )


def _other_content(draft: _Draft) -> OrderScenario:
    first = draft.placed()
    changed = json.loads(first.event.data)
    changed["metadata"] = {"gift": "yes"}
    second = replace(first, event=replace(first.event, data=json.dumps(changed).encode()))
    return OrderScenario(
        "same id, other content", draft.order_id, (first, second), ("accepted", "unpaid"), parked=1
    )


_WEIGHTS: Final[list[tuple[int, Callable[[_Draft], OrderScenario]]]] = [
    (40, _delivered),
    (10, _shipped),
    (8, _unpaid),
    (7, _twice),
    (8, _out_of_order),
    (3, _declined_then_paid),
    (4, _cancelled),
    (3, _paid_too_late),
    (3, _returned),
    (2, _too_late_to_cancel),
    (4, _held),
    (3, _rejected),
    (2, _malformed),
    (1, _no_cloudevent),
    (2, _other_content),
]


def order_scenarios(orders: int, seed: int, prefix: str, start: datetime) -> Iterator[OrderScenario]:
    """One scenario per order, and one order per second. The first ones are one of each kind, if `orders` is enough."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    kinds = [kind for _, kind in _WEIGHTS]
    weights = [weight for weight, _ in _WEIGHTS]
    for number in range(orders):
        one_of_each = number < len(kinds) <= orders
        kind = kinds[number] if one_of_each else rng.choices(kinds, weights)[0]
        at = start + timedelta(seconds=number)
        yield kind(_Draft(rng, f"{prefix}-{number:06}", at, _order(rng)))
