"""What the faulty stages share: which fault, and wrappers around the classes of the stage's own code."""

import copy
import hashlib
import json
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from orderflow.adapters.kafka.producer import KafkaPublisher
from orderflow.messaging.cloudevent import CloudEvent

FAULT = os.environ["FAULT"]
_RANDOM = random.SystemRandom()


def by_chance(share: float) -> bool:
    return _RANDOM.random() < share


def is_one_of(order_id: str, share: float) -> bool:
    """Whether the order is in the share of orders that a fault meets: always the same ones."""
    return hashlib.sha256(order_id.encode()).digest()[0] < share * 256


def change_published(topic: str, change: Callable[[CloudEvent], CloudEvent | None]) -> None:
    """Has every event that this process publishes to the topic changed first; None leaves the event out."""
    publish = KafkaPublisher.publish

    async def changed(self: KafkaPublisher, to: str, events: list[CloudEvent]) -> Any:
        if to == topic:
            events = [result for event in events if (result := change(event)) is not None]
        return await publish(self, to, events)

    KafkaPublisher.publish = changed  # type: ignore[method-assign]


def change_data(event: CloudEvent, change: Callable[[dict[str, Any]], None]) -> CloudEvent:
    """The event with its data changed in place."""
    data = copy.deepcopy(json.loads(event.data))
    change(data)
    return replace(event, data=json.dumps(data).encode())


def wrap(cls: type, method: str, wrapped: Callable[..., Awaitable[Any]]) -> None:
    """Replaces a method; the wrapper gets the original method first."""
    original = getattr(cls, method)

    async def replaced(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await wrapped(original, self, *args, **kwargs)

    setattr(cls, method, replaced)
