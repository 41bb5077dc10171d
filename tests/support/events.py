"""Orders and events as producers send them."""

import json
from itertools import count
from typing import Any

from orderflow.domain.events import type_of
from orderflow.messaging.cloudevent import CloudEvent

_numbers = count(1)


def order(**changes: Any) -> dict[str, Any]:
    """A placed order's data that every rule of the example shop accepts: 2 x 12.50 + 4.00 = 29.00 EUR."""
    return {
        "currency": "EUR",
        "lines": [{"sku": "MUG-BLUE", "name": "Blue mug", "quantity": 2, "unit_price": 1250}],
        "shipping": 400,
        "total": 2900,
        "customer": {"name": "Ada Lovelace", "email": "ada@example.org"},
        "shipping_address": {
            "name": "Ada Lovelace",
            "line1": "1 Analytical Way",
            "city": "Berlin",
            "country": "DE",
        },
    } | changes


def event(kind: str, order_id: str, data: dict[str, Any] | None = None, **changes: Any) -> CloudEvent:
    """An inbox event with an id of its own."""
    named: dict[str, Any] = {
        "type": type_of(kind),
        "source": "/shop/test",
        "id": f"{kind}-{order_id}-{next(_numbers)}",
        "subject": order_id,
        "time": "2026-11-23T10:00:00Z",
        "data": json.dumps(data if data is not None else {}).encode(),
    }
    return CloudEvent(**(named | changes))


def placed(order_id: str, /, **changes: Any) -> CloudEvent:
    return event("placed", order_id, order(**changes))


def paid(order_id: str, amount: int = 2900, currency: str = "EUR", **changes: Any) -> CloudEvent:
    return event("paid", order_id, {"amount": amount, "currency": currency}, **changes)
