"""The orders of a benchmark: every contender gets the same orders, in the same sequence, with the same ids."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orderflow.domain.events import type_of
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate.handler import validate

if TYPE_CHECKING:
    from orderflow.domain.rules import Rules

LIFE: Final = ("placed", "paid", "shipped", "delivered")
"""The kinds of the four events of each order; each changes the order."""
_SOURCES: Final = {
    "placed": "/shop/bench",
    "paid": "/payments/bench",
    "shipped": "/warehouse/bench",
    "delivered": "/warehouse/bench",
}

_WAVE: Final = 512
"""How many orders are in the same phase. The next event of an order comes that many events later."""

_LINES: Final = (
    {"sku": "MUG-BLUE", "name": "Mug, blue, 0.3 l, dishwasher safe", "quantity": 2, "unit_price": 1250},
    {"sku": "TEE-M", "name": "T-shirt, organic cotton, size M", "quantity": 1, "unit_price": 2400},
    {"sku": "POSTER-A2", "name": "Poster, A2, matt, rolled in a tube", "quantity": 3, "unit_price": 900},
)
_TOTAL: Final = 2 * 1250 + 2400 + 3 * 900 + 490

SMALL_ORDER: Final = {
    "currency": "EUR",
    "lines": [{"sku": "MUG-BLUE", "name": "Blue mug", "quantity": 2, "unit_price": 1250}],
    "shipping": 400,
    "total": 2900,
    "customer": {"name": "Ada Lovelace", "email": "ada@example.org"},
    "shipping_address": {"name": "Ada Lovelace", "line1": "1 Way", "city": "Berlin", "country": "DE"},
}
"""An order of one line, for measurements in which the content does not matter."""


@dataclass(slots=True)
class Workload:
    """inbox has the events that shops and carriers send; events has validate's event for each, in the same sequence."""

    orders: int
    inbox: list[CloudEvent] = field(default_factory=list)
    events: list[CloudEvent] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.inbox)


def order(number: int) -> dict[str, object]:
    """An order of about 1 KB of JSON that the example shop's rules accept."""
    address = {
        "name": "Ada Augusta Lovelace",
        "line1": f"{number} Analytical Engine Way",
        "line2": "Second floor, ring twice, leave with the neighbour",
        "city": "Berlin",
        "region": "Berlin",
        "postcode": "10115",
        "country": "DE",
    }
    return {
        "currency": "EUR",
        "lines": list(_LINES),
        "shipping": 490,
        "total": _TOTAL,
        "customer": {"name": "Ada Augusta Lovelace", "email": f"customer-{number}@shop.example"},
        "shipping_address": address,
        "billing_address": address | {"line2": "Accounts department, for the attention of Mr Babbage"},
        "metadata": {"channel": "web", "campaign": "autumn-sale"},
    }


def make(orders: int, rules: Rules, *, name: str = "b", life: tuple[str, ...] = LIFE) -> Workload:
    workload = Workload(orders)
    for start in range(0, orders, _WAVE):
        for phase, kind in enumerate(life):
            for number in range(start, min(start + _WAVE, orders)):
                event = _event(f"{name}-{number:07}", number, kind, phase)
                workload.inbox.append(event)
                workload.events.append(validate(event, rules))
    return workload


def _event(order_id: str, number: int, kind: str, phase: int) -> CloudEvent:
    data: dict[str, object] = {}
    if kind == "placed":
        data = order(number)
    elif kind == "paid":
        data = {"amount": _TOTAL, "currency": "EUR", "reference": f"payment-{number}"}
    elif kind == "shipped":
        data = {"carrier": "Parcel Post", "tracking": f"TRACK-{number:012}"}
    return CloudEvent(
        type=type_of(kind),
        source=_SOURCES[kind],
        id=f"{order_id}-{phase}",
        subject=order_id,
        time=f"2026-11-23T10:{phase:02}:00.000Z",
        data=json.dumps(data, separators=(",", ":")).encode(),
        extensions={"partitionkey": order_id},
    )
