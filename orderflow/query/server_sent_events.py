"""Server-sent events, bounded: a stream ends after a while and the browser comes again, and only some of the
server's threads may serve one."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from flask import Response

from orderflow.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

STREAM_SECONDS: Final = 30.0
TICK_SECONDS: Final = 2.0
_BACK_AFTER: Final = 1000
_BACK_WHEN_FULL: Final = 10_000
_IDLE_SHARE: Final = 10


class Kept(Generic[T]):
    """A costly answer, shared and kept for a moment: for `seconds`, and for ten times as long as it took, so that
    however large the tables are, asking for it all the time keeps the database busy a tenth of the time."""

    def __init__(
        self, ask: Callable[[], T], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: tuple[float, T] | None = None

    def get(self) -> T:
        """Raises what asking raises; the next call then asks again."""
        with self._lock:
            if self._answer is not None and self._clock() < self._answer[0]:
                return self._answer[1]
            began = self._clock()
            answer = self._ask()
            ended = self._clock()
            self._answer = (ended + max(self._seconds, _IDLE_SHARE * (ended - began)), answer)
            return answer


class Streams:
    """At most `most` streams at a time. Beyond that a stream sends one state of affairs and ends, so that the
    page still follows, only more slowly."""

    def __init__(
        self, most: int, seconds: float = STREAM_SECONDS, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._places = threading.BoundedSemaphore(most) if most else None
        self._seconds = seconds
        self._wait = wait

    def response(self, render: Callable[[], dict[str, str]]) -> Response:
        """Sends what render gives, by event name, at once and then whenever it differs."""
        place = self._places is not None and self._places.acquire(blocking=False)
        response = Response(self._events(render, once=not place), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"
        if place and self._places is not None:
            # Not in the generator's own `finally`: that never runs where the reader left before the first byte.
            response.call_on_close(self._places.release)
        return response

    def _events(self, render: Callable[[], dict[str, str]], *, once: bool) -> Iterator[str]:
        ends = time.monotonic() + self._seconds
        yield f"retry: {_BACK_WHEN_FULL if once else _BACK_AFTER}\n\n"
        shown: dict[str, str] = {}
        while True:
            try:
                now = render()
            except UnavailableError:
                now = {"trouble": "Not live: the database does not answer"}
            # A comment each time: a reader that has gone is noticed, and its place is free again.
            yield (
                "".join(_event(name, text) for name, text in now.items() if shown.get(name) != text)
                or ": \n\n"
            )
            shown = shown | now if "trouble" not in now else {}
            if once or time.monotonic() + TICK_SECONDS > ends:
                return
            self._wait(TICK_SECONDS)


def _event(name: str, text: str) -> str:
    # A reader takes \r for the end of a line too, and what follows it for a field.
    lines = "\n".join(f"data: {line}" for line in text.splitlines())
    return f"event: {name}\n{lines}\n\n"
