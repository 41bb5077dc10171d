"""Publishing from threads that cannot await: one event loop in a thread beside those of a synchronous server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.publisher import Publisher


class BlockingPublisher:
    """The event loop starts with the first call, in the worker: no thread survives a fork."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._start_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        """Blocks until every event is confirmed. Raises the same errors as Publisher.publish."""
        publishing = self._publisher.publish(topic, events)
        asyncio.run_coroutine_threadsafe(publishing, self._loop or self._start()).result()

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._start_lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="publishing", daemon=True).start()
                self._loop = loop
        return self._loop
