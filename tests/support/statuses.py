"""Status events as track announces them."""

from datetime import UTC, datetime
from itertools import count
from typing import Any

from orderflow.domain.lifecycle import OrderState, Payment, Status
from orderflow.domain.orders import Order
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.status_event import Change, status_event
from orderflow.notify.model import Notification, StatusChange
from support.events import order

STATUSES = {"paid": "accepted", "declined": "accepted", "authorised": "accepted", "refunded": "delivered"}
_numbers = count(1)


def announced(
    kind: str, order_id: str = "", detail: dict[str, Any] | None = None, **changes: Any
) -> CloudEvent:
    """The status event of a change of an order of its own, which is the order's data with the changes."""
    number = next(_numbers)
    order_id = order_id or f"order-{number}"
    placed = Order.model_validate(order(**changes))
    state = OrderState(
        status=Status(STATUSES.get(kind, kind if kind != "released" else "accepted")),
        payment=Payment.PAID if kind in {"paid", "refunded"} else Payment.UNPAID,
        currency=placed.currency,
        total=placed.total,
        captured=placed.total if kind in {"paid", "refunded"} else 0,
        refunded=(detail or {}).get("amount", 0) if kind == "refunded" else 0,
        version=1,
    )
    change = Change(
        source="/shop/test",
        id=f"{kind}-{number}",
        kind=kind,
        state=state,
        detail=detail or {},
        occurred_at=datetime(2026, 11, 23, 10, 0, tzinfo=UTC),
    )
    document = placed.model_dump_json(exclude_none=True)
    return status_event(order_id, document, change, CloudEvent("cause", "/shop/test", change.id))


def notification(event: CloudEvent, channel: str, recipient: str) -> Notification:
    return Notification(event, StatusChange.model_validate_json(event.data), channel, recipient)
