"""Makes new requests for each stage, with events that the stages' own code makes."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.workload import SMALL_ORDER
from orderflow.domain.events import type_of
from orderflow.domain.rules import Rules
from orderflow.errors import Reason
from orderflow.messaging import parked_event
from orderflow.messaging.cloudevent import JSON, CloudEvent, now
from orderflow.track import decision
from orderflow.validate.handler import validate

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_PAYLOAD: Final = 900_000


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a stage."""

    path: str
    headers: dict[str, str]
    body: bytes


def order() -> Call:
    """A storefront's request."""
    headers = {"Content-Type": JSON, "Idempotency-Key": str(uuid.uuid4())}
    return Call("/orders", headers, json.dumps(SMALL_ORDER).encode())


def placed() -> CloudEvent:
    order_id = f"bench-{uuid.uuid4()}"
    return CloudEvent(
        type=type_of("placed"),
        source="/shop/bench",
        id=f"placed-{order_id}",
        subject=order_id,
        time=now(),
        data=json.dumps(SMALL_ORDER).encode(),
        extensions={"partitionkey": order_id},
    )


def judged() -> CloudEvent:
    return validate(placed(), Rules())


def announced() -> CloudEvent:
    plan = decision.plan(decision.read(judged()), decision.Snapshot(), "bench")
    return plan.announced[0]


def parked() -> CloudEvent:
    received = parked_event.ReceivedEvent.of_request(_headers(placed()), b"{")
    reasons = [Reason("json_invalid", "", "the body is not JSON")]
    return parked_event.parked(
        received, stage="validate", revision="bench", reasons=reasons, max_payload=_MAX_PAYLOAD
    )


def _headers(event: CloudEvent) -> list[tuple[bytes, bytes]]:
    attributes = {f"ce-{name}": value for name, value in event.attributes().items()}
    return [(name.encode(), value.encode()) for name, value in (attributes | {"content-type": JSON}).items()]


def delivered(event: CloudEvent) -> Call:
    """The request by which KafkaSource delivers the event."""
    return Call("/", {name.decode(): value.decode() for name, value in _headers(event)}, event.data)


CALLS: Final[dict[str, Callable[[], Call]]] = {
    "intake": order,
    "validate": lambda: delivered(placed()),
    "track": lambda: delivered(judged()),
    "notify": lambda: delivered(announced()),
    "park": lambda: delivered(placed()),
    "shelve": lambda: delivered(parked()),
}
