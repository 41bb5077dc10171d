"""Status events as notify reads them, and the notifications that are sent for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import ConfigDict, JsonValue

from orderflow.domain.events import kind_of, parse
from orderflow.domain.lifecycle import Payment, Status
from orderflow.domain.money import Amount, Currency
from orderflow.domain.orders import Frozen, Order, OrderId
from orderflow.errors import PoisonError, Reason
from orderflow.messaging.status_event import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from orderflow.messaging.cloudevent import CloudEvent

T = TypeVar("T")

EMAIL: Final = "email"
WEBHOOK: Final = "webhook"

CustomerKind = Literal[
    "accepted",
    "rejected",
    "held",
    "paid",
    "declined",
    "shipped",
    "delivered",
    "cancelled",
    "returned",
    "refunded",
]
"""The status events that customers get an e-mail for. Each kind has its own templates."""

StatusKind = Literal[CustomerKind, "released", "authorised", "packed"]


class StatusChange(Frozen):
    """The data of a status event. Amounts are minor units of the currency; version counts the order's changes.

    Unknown fields are ignored: during a release, a newer track sends events to an older notify.
    """

    model_config = ConfigDict(extra="ignore")

    order_id: OrderId
    kind: StatusKind
    version: int
    status: Status
    payment: Payment
    currency: Currency
    total: Amount
    captured: Amount
    refunded: Amount
    detail: dict[str, JsonValue]
    order: Order


def read(event: CloudEvent) -> StatusChange:
    """Raises PoisonError where the event is not a status event of track."""
    if event.source != SOURCE:
        raise PoisonError(Reason("source_unknown", "source", "status events come from track"))
    change = parse(StatusChange, event.data)
    if change.kind != kind_of(event.type):
        raise PoisonError(Reason("type_mismatch", "type", "the data is of another kind of event"))
    if change.order_id != event.subject:
        raise PoisonError(Reason("order_id_mismatch", "order_id", "this differs from the event's subject"))
    return change


@dataclass(frozen=True, slots=True)
class Notification:
    """One message. Its key is (event id, channel, recipient): each key is sent once.

    recipient is an e-mail address, or the name of a webhook endpoint.
    """

    event: CloudEvent
    change: StatusChange
    channel: str
    recipient: str

    @property
    def target(self) -> str:
        """The channel and, for a webhook, the endpoint's name. Holds no personal data."""
        return self.channel if self.channel == EMAIL else f"{self.channel}.{self.recipient}"


class Handover:
    """The handovers of a notification to the server that takes it for the recipient, under one claim: one is allowed.

    A channel hands over through once(), at the place where the message is transmitted.
    """

    def __init__(self) -> None:
        self.count = 0
        """How often once() was called. Refused handovers count: they are a fault of ours."""
        self._first: asyncio.Future[Any] | None = None

    async def once(self, transmit: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of transmit, or its error. A second call under the same claim transmits nothing and has the result
        of the first."""
        self.count += 1
        if self._first is None:
            self._first = asyncio.ensure_future(transmit())
        result: T = await self._first
        return result


class DeliveryResult(StrEnum):
    SENT = "sent"
    REFUSED = "refused"
    """Refused for good: sending the same notification again cannot succeed."""
    GONE = "gone"
    """Refused, and the recipient wants no notifications any more."""
    NOT_NOW = "not_now"
    """Certainly not accepted: it may be sent again at once."""
    UNKNOWN = "unknown"
    """Possibly accepted: the notification was transmitted, and no answer came."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to send a notification. code is for machines, does not change between releases, and is empty
    where the notification was sent."""

    result: DeliveryResult
    code: str = ""
