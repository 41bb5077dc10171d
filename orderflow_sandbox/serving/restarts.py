"""How often a revision's processes have failed in a row, and how long the next start has to wait."""

from __future__ import annotations

# The kubelet waits 10 s, 20 s ... 5 min between restarts; here a person is waiting.
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 30.0
_STEADY_AFTER = 10.0
_CRASH_LOOP = 3


class Restarts:
    """The first restart is immediate. `time_scale` stretches the durations; `now` is the event loop's time."""

    def __init__(self, time_scale: float) -> None:
        self._time_scale = time_scale
        self._failures = 0
        self._not_before = 0.0

    @property
    def crash_loop(self) -> bool:
        return self._failures >= _CRASH_LOOP

    def wait(self, now: float) -> float:
        """Seconds until a process may be started; 0 or less: now."""
        return self._not_before - now

    def failed(self, now: float, ran_for: float = 0.0) -> None:
        """A process failed. One that ran for long enough does not count the failures before it."""
        if ran_for > _STEADY_AFTER * self._time_scale:
            self._failures = 0
        self._failures += 1
        if self._failures > 1:
            backoff = min(_FIRST_BACKOFF * 2 ** (self._failures - 2), _LONGEST_BACKOFF)
            self._not_before = now + backoff * self._time_scale

    def succeeded(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """The next start need not wait."""
        self._failures = 0
        self._not_before = 0.0
