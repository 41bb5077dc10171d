"""Server-sent events with limits: a stream ends after a while and the browser reconnects, and only some of the
server's threads may serve a stream."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from flask import Response

from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STREAM_SECONDS: Final = 30.0
TICK_SECONDS: Final = 2.0
_RETRY_MS: Final = 1000
_RETRY_MS_WHEN_FULL: Final = 10_000


class EventStreams:
    """Serves at most max_streams at a time. Each further stream sends the present state once and ends, so that its
    page is updated at every reconnection instead."""

    def __init__(
        self, max_streams: int, seconds: float = STREAM_SECONDS, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._slots = threading.BoundedSemaphore(max_streams) if max_streams else None
        self._seconds = seconds
        self._wait = wait

    def response(self, render: Callable[[], dict[str, str]]) -> Response:
        """Sends the parts that render returns, by event name: all at once, later only those that changed."""
        has_slot = self._slots is not None and self._slots.acquire(blocking=False)
        response = Response(self._events(render, once=not has_slot), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"
        if has_slot and self._slots is not None:
            # Not in a `finally` of the generator: it would not run where the client leaves before the first byte.
            response.call_on_close(self._slots.release)
        return response

    def _events(self, render: Callable[[], dict[str, str]], *, once: bool) -> Iterator[str]:
        ends = time.monotonic() + self._seconds
        yield f"retry: {_RETRY_MS_WHEN_FULL if once else _RETRY_MS}\n\n"
        sent: dict[str, str] = {}
        while True:
            try:
                parts = render()
            except TransientError:
                parts = {"trouble": "Not live: the database does not answer"}
            # Without a change, send a comment: writing to a client that has left ends the stream and frees its slot.
            changed = "".join(_event(name, text) for name, text in parts.items() if sent.get(name) != text)
            yield changed or ": \n\n"
            sent = sent | parts if "trouble" not in parts else {}
            if once or time.monotonic() + TICK_SECONDS > ends:
                return
            self._wait(TICK_SECONDS)


def _event(name: str, text: str) -> str:
    # A client treats \r as a line end too, and would read the rest of the line as a field.
    lines = "\n".join(f"data: {line}" for line in text.splitlines())
    return f"event: {name}\n{lines}\n\n"
