"""The messages that the sandbox sends, and what must become of the order that they are about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow.messaging.cloudevent import CloudEvent


class Transport(StrEnum):
    """How a message is sent."""

    PLAIN = "POST /orders"
    BINARY = "CloudEvent, binary"
    STRUCTURED = "CloudEvent, structured"
    KAFKA = "Kafka"
    RAW = "Kafka, no CloudEvent"


@dataclass(frozen=True, slots=True)
class Message:
    """One message to send. `key` is the Idempotency-Key of a plain order. `refusal` is the 4xx that must answer it."""

    transport: Transport
    event: CloudEvent
    key: str = ""
    refusal: int = 0


@dataclass(frozen=True, slots=True)
class OrderScenario:
    """The messages about one order, in the sequence in which they are sent, and what must become of the order.

    `end` is (status, payment), or None where no order must exist. `parked` is the number of messages that must be
    parked.
    """

    name: str
    order_id: str
    messages: tuple[Message, ...]
    end: tuple[str, str] | None
    parked: int = 0
