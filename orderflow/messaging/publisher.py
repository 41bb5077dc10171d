"""The port through which stages publish; orderflow.adapters.kafka.producer implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.messaging.cloudevent import CloudEvent


class Publisher(Protocol):
    """Publishes events under their order id. Returns when every one is confirmed."""

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        """Raises TransientError where any event was not confirmed in time; it may still be in the topic.
        Raises PoisonError where one is larger than the topic takes, which no repetition cures.
        """
