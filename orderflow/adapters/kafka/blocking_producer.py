"""Publishing from a thread that cannot await: one event loop beside the threads of a synchronous server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.messaging.cloudevent import Envelope
    from orderflow.messaging.publisher import Publisher


class BlockingPublisher:
    """Its loop starts with the first call, in the worker: a thread that was there before a fork is gone after it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def publish(self, topic: str, events: Sequence[Envelope]) -> None:
        """As Publisher.publish, and returns when every event is confirmed."""
        work = self._publisher.publish(topic, events)
        asyncio.run_coroutine_threadsafe(work, self._loop or self._start()).result()

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="publishing", daemon=True).start()
                self._loop = loop
        return self._loop
