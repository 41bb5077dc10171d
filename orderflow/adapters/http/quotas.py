"""Quotas of API keys at intake: token buckets in this process, so that each pod counts for itself.

A request is refused before its body is read, and after a pause: a client that sends the next request as soon as the
last one is refused would take the CPU from all others. The header fields RateLimit and RateLimit-Policy are those of
draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orderflow.adapters.http import problems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

REQUESTS: Final = "requests"
BYTES: Final = "bytes"
IN_FLIGHT: Final = "in-flight"
REFUSAL_SECONDS: Final = 0.1
"""The pause before a refusal. A connection gets at most one refusal in that time. It is short, because a refusal that
pauses holds one of the pod's places for requests."""
_TEXTS: Final = {
    REQUESTS: "this API key has sent too many requests; send the same again later",
    BYTES: "this API key has sent too many bytes; send the same again later",
    IN_FLIGHT: "this API key has too many requests in flight; send the same again later",
}


@dataclass(frozen=True, slots=True)
class Quota:
    """What one key may send to one pod. None: no limit. burst: requests at once, after a pause."""

    requests_per_second: float | None = None
    burst: int | None = None
    bytes_per_second: int | None = None
    in_flight: int | None = None


class TokenBucket:
    """Gains `rate` units a second, up to `capacity`. It may be overdrawn, and then has nothing until the debt is paid.
    So the rate holds for amounts of any size."""

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self.rate = rate
        self.capacity = capacity
        self._units = capacity
        self._at = now

    def units(self, now: float) -> float:
        """What is there; less than zero after an overdraft."""
        self._units = min(self.capacity, self._units + (now - self._at) * self.rate)
        self._at = now
        return self._units

    def take(self, amount: float, now: float) -> None:
        self._units = self.units(now) - amount

    def seconds_until(self, units: float, now: float) -> float:
        """How long until so many units are there."""
        return max(0.0, (units - self.units(now)) / self.rate)


@dataclass(slots=True)
class _Usage:
    """What the clients of one name have used of their quota."""

    quota: Quota
    now: float
    in_flight: int = 0
    requests: TokenBucket | None = field(init=False, default=None)
    bytes: TokenBucket | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        rate, size = self.quota.requests_per_second, self.quota.bytes_per_second
        if rate is not None:
            self.requests = TokenBucket(rate, self.quota.burst or max(1, math.ceil(rate)), self.now)
        if size is not None:
            self.bytes = TokenBucket(size, size, self.now)

    def exceeded(self, now: float) -> tuple[str, float] | None:
        """The name of the policy that refuses a request now, and the seconds until it does not."""
        if self.quota.in_flight is not None and self.in_flight >= self.quota.in_flight:
            return IN_FLIGHT, 1.0
        waits = {name: bucket.seconds_until(1, now) for name, bucket in self._buckets()}
        name = max(waits, key=lambda each: waits[each], default="")
        return (name, waits[name]) if name and waits[name] > 0 else None

    def take(self, size: int, now: float) -> None:
        if self.requests is not None:
            self.requests.take(1, now)
        if self.bytes is not None:
            self.bytes.take(size, now)

    def headers(self, now: float) -> dict[str, str]:
        policies, states = [], []
        if self.quota.in_flight is not None:
            policies.append(f'"{IN_FLIGHT}";q={self.quota.in_flight};qu="concurrent-requests"')
            states.append(f'"{IN_FLIGHT}";r={max(0, self.quota.in_flight - self.in_flight)}')
        for name, bucket in self._buckets():
            remaining = max(0, math.floor(bucket.units(now)))
            reset = bucket.seconds_until(bucket.capacity if remaining else 1, now)
            window = max(1, math.ceil(bucket.capacity / bucket.rate))
            unit = ';qu="content-bytes"' if name == BYTES else ""
            policies.append(f'"{name}";q={math.floor(bucket.capacity)}{unit};w={window}')
            states.append(f'"{name}";r={remaining};t={math.ceil(reset)}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}

    def _buckets(self) -> Iterator[tuple[str, TokenBucket]]:
        for name, bucket in ((REQUESTS, self.requests), (BYTES, self.bytes)):
            if bucket is not None:
                yield name, bucket


class Quotas:
    """Answers a request, or refuses it with a 429 where its client has used up its quota.

    Keys of one name and one quota share it, so that a second key of a client, or a rotated one, gives no more.
    """

    def __init__(
        self,
        max_body: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """max_body, in bytes, is what a request counts whose length is not declared. clock and pause are in seconds."""
        self._max_body = max_body
        self._clock = clock
        self._pause = pause
        self._usages: dict[tuple[str, Quota], _Usage] = {}

    async def answer(
        self, name: str, quota: Quota | None, request: Request, handle: Callable[[], Awaitable[Response]]
    ) -> Response:
        """handle() answers a request that is within the quota of the client of that name."""
        if quota is None:
            return await handle()
        now = self._clock()
        usage = self._usages.get((name, quota))
        if usage is None:
            usage = self._usages[name, quota] = _Usage(quota, now)
        refusal = usage.exceeded(now)
        if refusal is not None:
            policy, seconds = refusal
            await self._pause(REFUSAL_SECONDS)
            headers = {"Retry-After": str(max(1, math.ceil(seconds)))} | usage.headers(now)
            return problems.problem(429, "quota_exceeded", _TEXTS[policy], headers=headers)
        usage.take(self._size(request), now)
        usage.in_flight += 1
        try:
            response = await handle()
        finally:
            usage.in_flight -= 1
        response.headers.update(usage.headers(self._clock()))
        return response

    def _size(self, request: Request) -> int:
        declared = request.headers.get("content-length", "")
        if not declared.isdigit() or len(declared) > len(str(self._max_body)):
            return self._max_body
        return min(int(declared), self._max_body)
