"""A realistic stream of what outsiders send about orders, the bad and the odd included. Pure, from a seed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.events import type_of
from orderflow.messaging.cloudevent import Envelope

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


class Way(StrEnum):
    """How something is sent."""

    PLAIN = "POST /orders"
    BINARY = "CloudEvent, binary"
    STRUCTURED = "CloudEvent, structured"
    KAFKA = "Kafka"
    RAW = "Kafka, no CloudEvent"


@dataclass(frozen=True, slots=True)
class Sending:
    """One thing to send. key is the Idempotency-Key of a plain order; refused is the 4xx it must be met with."""

    way: Way
    event: Envelope
    key: str = ""
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """What is sent about one order, in this order, and where that must end.

    ends is (status, payment); None: the order must not come into being. parks is how many of the sendings
    must end as parked events.
    """

    name: str
    order_id: str
    sendings: tuple[Sending, ...]
    ends: tuple[str, str] | None
    parks: int = 0


@dataclass(slots=True)
class _Draft:
    """An order that is being told."""

    rolls: random.Random
    order_id: str
    at: datetime
    data: dict[str, Any] = field(default_factory=dict)

    def event(
        self, kind: str, source: str, data: dict[str, Any] | None = None, *, suffix: str = ""
    ) -> Envelope:
        self.at += timedelta(minutes=self.rolls.randint(1, 90))
        return Envelope(
            type=type_of(kind),
            source=source,
            id=f"{self.order_id}-{kind}{suffix}",
            subject=self.order_id,
            time=self.at.isoformat().replace("+00:00", "Z"),
            data=json.dumps(data or {}, separators=(",", ":")).encode(),
        )

    def placed(self) -> Sending:
        event = self.event("placed", SHOP, self.data)
        way = self.rolls.choice([Way.PLAIN, Way.PLAIN, Way.BINARY, Way.STRUCTURED, Way.KAFKA])
        if way is Way.PLAIN:
            document = {"order_id": self.order_id} | self.data
            return Sending(
                way, replace(event, data=json.dumps(document).encode()), key=f"key-{self.order_id}"
            )
        return Sending(way, event)

    def paid(self, *, suffix: str = "") -> Sending:
        money = {
            "amount": self.data["total"],
            "currency": self.data["currency"],
            "reference": f"ch_{self.order_id}",
        }
        return Sending(Way.KAFKA, self.event("paid", PAYMENTS, money, suffix=suffix))

    def refunded(self, amount: int, *, suffix: str = "") -> Sending:
        money = {"amount": amount, "currency": self.data["currency"]}
        return Sending(Way.KAFKA, self.event("refunded", PAYMENTS, money, suffix=suffix))

    def from_warehouse(self, kind: str, data: dict[str, Any] | None = None) -> Sending:
        return Sending(Way.KAFKA, self.event(kind, WAREHOUSE, data))

    def shipped(self) -> Sending:
        return self.from_warehouse(
            "shipped", {"carrier": "DHL", "tracking": f"JD{self.rolls.randrange(10**10):010}"}
        )

    def cancelled(self) -> Sending:
        way = self.rolls.choice([Way.BINARY, Way.STRUCTURED])
        return Sending(way, self.event("cancelled", SHOP, {"reason": "changed my mind"}))


def _order(rolls: random.Random) -> dict[str, Any]:
    chosen = [(article, rolls.randint(1, 3)) for article in rolls.sample(_ARTICLES, rolls.randint(1, 3))]
    lines = [
        {"sku": sku, "name": name, "quantity": quantity, "unit_price": price}
        for (sku, name, price), quantity in chosen
    ]
    name = rolls.choice(_NAMES)
    city, country = rolls.choice(_CITIES)
    shipping = rolls.choice([0, 490])
    goods = sum(price * quantity for (_, _, price), quantity in chosen)
    return {
        "currency": "EUR",
        "lines": lines,
        "shipping": shipping,
        "total": goods + shipping,
        "customer": {
            "name": name,
            "email": f"{name.split()[0].lower()}{rolls.randrange(10**6)}@customer.example",
        },
        "shipping_address": {"name": name, "line1": f"{rolls.randint(1, 99)} Long Street", "city": city}
        | {"country": country},
    }


def _to_the_door(draft: _Draft, name: str = "delivered") -> Story:
    steps = (draft.placed(), draft.paid(), draft.from_warehouse("packed"), draft.shipped())
    return Story(name, draft.order_id, (*steps, draft.from_warehouse("delivered")), ("delivered", "paid"))


def _being_shipped(draft: _Draft) -> Story:
    steps = (draft.placed(), draft.paid(), draft.from_warehouse("packed"), draft.shipped())
    return Story("on its way", draft.order_id, steps, ("shipped", "paid"))


def _only_placed(draft: _Draft) -> Story:
    return Story("not paid yet", draft.order_id, (draft.placed(),), ("accepted", "unpaid"))


def _twice(draft: _Draft) -> Story:
    """Everything is sent twice, as a client does that got no answer."""
    told = _to_the_door(draft)
    twice = tuple(sending for each in told.sendings for sending in (each, each))
    return replace(told, name="everything twice", sendings=twice)


def _out_of_order(draft: _Draft) -> Story:
    told = _to_the_door(draft)
    shuffled = list(told.sendings)
    draft.rolls.shuffle(shuffled)
    # Packed after shipped is stale; with that one in its place any order must end the same.
    kept = [sending for sending in shuffled if "packed" not in sending.event.type]
    return replace(told, name="out of order", sendings=tuple(kept))


def _declined_then_paid(draft: _Draft) -> Story:
    declined = Sending(Way.KAFKA, draft.event("declined", PAYMENTS, {"reason": "insufficient funds"}))
    return Story(
        "declined, then paid", draft.order_id, (draft.placed(), declined, draft.paid()), ("accepted", "paid")
    )


def _cancelled(draft: _Draft) -> Story:
    return Story("cancelled", draft.order_id, (draft.placed(), draft.cancelled()), ("cancelled", "unpaid"))


def _paid_too_late(draft: _Draft) -> Story:
    steps = (draft.placed(), draft.cancelled(), draft.paid())
    return Story("late payment of a cancelled order", draft.order_id, steps, ("cancelled", "paid"))


def _returned(draft: _Draft) -> Story:
    told = _to_the_door(draft)
    half = draft.data["total"] // 2
    back = (
        draft.from_warehouse("returned", {"reason": "broken"}),
        draft.refunded(half, suffix="-1"),
        draft.refunded(draft.data["total"] - half, suffix="-2"),
    )
    return Story(
        "returned, refunded in two parts", draft.order_id, told.sendings + back, ("returned", "refunded")
    )


def _too_late_to_cancel(draft: _Draft) -> Story:
    steps = (draft.placed(), draft.paid(), draft.shipped(), draft.cancelled())
    return Story("cancelled after it left", draft.order_id, steps, ("shipped", "paid"), parks=1)


def _for_review(draft: _Draft) -> Story:
    lines = [{"sku": "KETTLE-S", "name": "Small kettle", "quantity": 20, "unit_price": 8900}]
    draft.data |= {"lines": lines, "shipping": 0, "total": 178_000}
    return Story("held for review", draft.order_id, (draft.placed(),), ("held", "unpaid"))


def _abroad(draft: _Draft) -> Story:
    draft.data["shipping_address"] |= {"country": "NZ", "city": "Wellington"}
    draft.data["lines"][0]["quantity"] = 600
    draft.data["total"] += 1
    return Story("rejected, three reasons", draft.order_id, (draft.placed(),), ("rejected", "unpaid"))


def _malformed(draft: _Draft) -> Story:
    draft.data["total"] = -5
    event = draft.event("placed", SHOP, draft.data)
    if draft.rolls.random() < 0.5:  # noqa: PLR2004 - a coin
        return Story("malformed, over HTTP", draft.order_id, (Sending(Way.BINARY, event, refused=400),), None)
    return Story("malformed, over Kafka", draft.order_id, (Sending(Way.KAFKA, event),), None, parks=1)


def _no_cloudevent(draft: _Draft) -> Story:
    body = draft.rolls.choice([b"{not json", b"\x00\xff\xfe", b'{"hello":"world"}'])
    event = Envelope("", "", "", subject=draft.order_id, data=body)
    return Story("no CloudEvent at all", draft.order_id, (Sending(Way.RAW, event),), None, parks=1)


def _other_content(draft: _Draft) -> Story:
    first = draft.placed()
    way = Way.KAFKA if first.way is Way.KAFKA else first.way
    changed = json.loads(first.event.data)
    changed["metadata"] = {"gift": "yes"}
    second = replace(first, way=way, event=replace(first.event, data=json.dumps(changed).encode()))
    return Story("same id, other content", draft.order_id, (first, second), ("accepted", "unpaid"), parks=1)


_WEIGHTS: Final[list[tuple[int, Callable[[_Draft], Story]]]] = [
    (40, _to_the_door),
    (10, _being_shipped),
    (8, _only_placed),
    (7, _twice),
    (8, _out_of_order),
    (3, _declined_then_paid),
    (4, _cancelled),
    (3, _paid_too_late),
    (3, _returned),
    (2, _too_late_to_cancel),
    (4, _for_review),
    (3, _abroad),
    (2, _malformed),
    (1, _no_cloudevent),
    (2, _other_content),
]


def stories(orders: int, seed: int, prefix: str, start: datetime) -> Iterator[Story]:
    """One story an order, one beginning every second; the first show every kind once, if there is room for all."""
    rolls = random.Random(seed)  # noqa: S311 - not for secrets
    kinds = [tell for _, tell in _WEIGHTS]
    weights = [weight for weight, _ in _WEIGHTS]
    for number in range(orders):
        shown = number < len(kinds) <= orders
        tell = kinds[number] if shown else rolls.choices(kinds, weights)[0]
        at = start + timedelta(seconds=number)
        yield tell(_Draft(rolls, f"{prefix}-{number:06}", at, _order(rolls)))
