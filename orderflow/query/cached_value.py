"""An expensive value, shared by all threads and reused for a while."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_IDLE_SHARE: Final = 10


class CachedValue(Generic[T]):
    """Keeps a value for `seconds`, or for ten times as long as its computation took, whichever is longer. However
    large the tables are and however often the value is requested, the database is busy for a tenth of the time."""

    def __init__(
        self, compute: Callable[[], T], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._compute = compute
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: tuple[float, T] | None = None

    def get(self) -> T:
        """Raises what compute raises; nothing is cached then."""
        with self._lock:
            if self._cached is not None and self._clock() < self._cached[0]:
                return self._cached[1]
            started = self._clock()
            value = self._compute()
            finished = self._clock()
            expires = finished + max(self._seconds, _IDLE_SHARE * (finished - started))
            self._cached = (expires, value)
            return value
