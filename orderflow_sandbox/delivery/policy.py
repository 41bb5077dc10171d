"""What an answer of a sink means, and how long to wait before the next attempt. Pure.

Measured against the data plane: `retry: N` is N+1 attempts; no jitter; Retry-After is ignored.
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
# Once a 303 has turned the POST into a GET, these are followed, too.
_REDIRECTS_OF_A_GET = frozenset({301, 302, 303, 307, 308})


class Verdict(Enum):
    SUCCESS = auto()
    RETRY = auto()
    FAIL = auto()
    FOLLOW = auto()


def judge(status: int, *, method: str = "POST", location: bool = False) -> Verdict:
    """The status is a final one (not 1xx); location: whether there is a Location header."""
    if status < _FIRST_FAILURE:
        return Verdict.SUCCESS
    if status >= _FIRST_SERVER_ERROR or status in _RETRIED_BELOW_500:
        return Verdict.RETRY
    followed = _REDIRECTS_OF_A_GET if method == "GET" else {_SEE_OTHER}
    return Verdict.FOLLOW if location and status in followed else Verdict.FAIL


@dataclass(frozen=True, slots=True)
class Backoff:
    """retries after the first attempt; delay and timeout in seconds."""

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
        """Seconds before the given retry, counted from 1; None where there is none.

        Linear delay*k, exponential delay*2^k: the first exponential wait is twice the delay.
        A delay of zero disables retries.
        """
        if retry > self.retries or self.delay <= 0:
            return None
        return self.delay * (retry if self.linear else 2.0**retry)
