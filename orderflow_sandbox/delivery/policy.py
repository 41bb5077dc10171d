"""What follows from a sink's response, and how long to wait before the next attempt. Pure.

Measured against the data plane: `retry: N` is N+1 attempts, there is no jitter, and Retry-After is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow_sandbox.delivery.manifest import Delivery

_RETRIED_BELOW_500 = frozenset({404, 408, 409, 429})
_FIRST_FAILURE = 300
_FIRST_SERVER_ERROR = 500
_SEE_OTHER = 303
# After a 303 has turned the POST into a GET, these are followed, too.
_REDIRECTS_OF_A_GET = frozenset({301, 302, 303, 307, 308})


class Decision(Enum):
    SUCCESS = auto()
    RETRY = auto()
    FAIL = auto()
    FOLLOW = auto()


def decide(status: int, *, method: str = "POST", location: bool = False) -> Decision:
    """`status` is a final one (not 1xx). `location` says whether the response has a Location header."""
    if status < _FIRST_FAILURE:
        return Decision.SUCCESS
    if status >= _FIRST_SERVER_ERROR or status in _RETRIED_BELOW_500:
        return Decision.RETRY
    followed = _REDIRECTS_OF_A_GET if method == "GET" else {_SEE_OTHER}
    return Decision.FOLLOW if location and status in followed else Decision.FAIL


@dataclass(frozen=True, slots=True)
class Backoff:
    """`retries` come after the first attempt. `delay` and `timeout` are in seconds."""

    retries: int
    delay: float
    linear: bool
    timeout: float

    @classmethod
    def of(cls, delivery: Delivery) -> Backoff:
        return cls(
            retries=delivery.retry,
            delay=delivery.backoff_delay.total_seconds(),
            linear=delivery.backoff_policy == "linear",
            timeout=delivery.timeout.total_seconds(),
        )

    def wait(self, retry: int) -> float | None:
        """Seconds before a retry; the first one has the number 1. None where there is no such retry.

        Linear: delay*k. Exponential: delay*2^k, so that the first wait is twice the delay. A delay of zero disables
        retries.
        """
        if retry > self.retries or self.delay <= 0:
            return None
        return self.delay * (retry if self.linear else 2.0**retry)
