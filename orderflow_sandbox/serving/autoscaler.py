"""How many processes a revision should have: the Knative Pod Autoscaler's rules, pure.

Source: knative.dev/serving pkg/autoscaler/scaling (autoscaler.go, multiscaler.go)
and the scale-to-zero rules of pkg/reconciler/autoscaling/kpa.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow_sandbox.serving.manifest import Scale

# Knative's config-autoscaler defaults.
TICK_SECONDS = 2.0
BUCKET_SECONDS = 1.0
MAX_SCALE_UP_RATE = 1000.0
MAX_SCALE_DOWN_RATE = 2.0
DEFAULT_TARGET = 100.0
LEAST_TARGET = 0.01


@dataclass(frozen=True)
class Limits:
    """A revision's scaling rules. Durations in seconds, `target` in requests per process."""

    target: float
    window: float
    panic_window: float
    panic_threshold: float
    retention: float
    scale_down_delay: float
    min_scale: int
    max_scale: int

    @classmethod
    def of(cls, scale: Scale, concurrency: int, *, cap: int, time_scale: float) -> Limits:
        """From annotations and containerConcurrency, with at most `cap` processes."""
        asked = scale.target or float(concurrency) or DEFAULT_TARGET
        if concurrency:
            asked = min(asked, float(concurrency))
        window = scale.window * time_scale
        most = scale.min_scale if scale.by_cpu else scale.max_scale
        ceiling = min(most or cap, cap)
        return cls(
            target=max(LEAST_TARGET, asked * scale.target_utilization_percentage / 100),
            window=window,
            panic_window=window * scale.panic_window_percentage / 100,
            panic_threshold=scale.panic_threshold_percentage / 100,
            retention=scale.scale_to_zero_pod_retention_period * time_scale,
            scale_down_delay=scale.scale_down_delay * time_scale,
            min_scale=min(scale.min_scale, ceiling),
            max_scale=ceiling,
        )


@dataclass(frozen=True)
class Observed:
    """What there is: average concurrency over both windows, processes, seconds of quiet.

    `quiet_for` is 0 while anything is in flight or waits for a process.
    """

    now: float
    stable: float
    panic: float
    ready: int
    quiet_for: float


@dataclass(frozen=True)
class Memory:
    """What a decision must know of the ones before."""

    panic_until: float | None = None
    panic_peak: int = 0
    wished: tuple[tuple[float, int], ...] = ()


def decide(limits: Limits, observed: Observed, memory: Memory) -> tuple[int, Memory]:
    """How many processes there should be now."""
    ready = max(1, observed.ready)
    stable = math.ceil(observed.stable / limits.target)
    panic = math.ceil(observed.panic / limits.target)
    memory = _panicking(limits, observed, memory, panic / ready, panic)
    wish = stable
    if memory.panic_until is not None:
        # Panicking never scales down.
        wish = max(stable, panic, memory.panic_peak)
    wish = min(wish, math.ceil(ready * MAX_SCALE_UP_RATE))
    if observed.ready:
        wish = max(wish, math.floor(ready / MAX_SCALE_DOWN_RATE))
    wish, memory = _delayed(limits, observed.now, memory, wish)
    waiting = observed.quiet_for == 0
    if (observed.ready or waiting) and observed.quiet_for < limits.window + limits.retention:
        wish = max(wish, 1)
    return min(max(wish, limits.min_scale), limits.max_scale), memory


def _panicking(limits: Limits, observed: Observed, memory: Memory, excess: float, wish: int) -> Memory:
    if excess >= limits.panic_threshold:
        until = observed.now + limits.window
        return replace(memory, panic_until=until, panic_peak=max(memory.panic_peak, wish))
    if memory.panic_until is not None and observed.now >= memory.panic_until:
        return replace(memory, panic_until=None, panic_peak=0)
    return memory


def _delayed(limits: Limits, now: float, memory: Memory, wish: int) -> tuple[int, Memory]:
    """The highest wish of the last `scale_down_delay` seconds."""
    if not limits.scale_down_delay:
        return wish, memory
    since = now - limits.scale_down_delay
    wished = (*(each for each in memory.wished if each[0] > since), (now, wish))
    return max(each for _, each in wished), replace(memory, wished=wished)


class Load:
    """A revision's concurrency over time, queued requests included.

    Kept as time-weighted averages per bucket, as the queue-proxy reports them.
    """

    def __init__(self, bucket: float, window: float, now: float) -> None:
        """Buckets of `bucket` seconds, enough of them for `window` seconds."""
        self.level = 0
        self._bucket = bucket
        self._buckets: deque[float] = deque(maxlen=max(1, math.ceil(window / bucket)))
        self._area = 0.0
        self._since = now
        self._bucket_end = now + bucket
        self._quiet_since = now

    def change(self, by: int, now: float) -> None:
        """`by` requests came (positive) or were done (negative)."""
        if now >= self._bucket_end:
            self._advance(now)
        self._area += self.level * (now - self._since)
        self._since = now
        self.level += by
        if not self.level:
            self._quiet_since = now

    def wake(self, now: float) -> None:
        """Count quiet time from here: a process has just become ready."""
        self._quiet_since = max(self._quiet_since, now)

    def quiet_for(self, now: float) -> float:
        """Seconds without a request in flight or queued."""
        return 0.0 if self.level else now - self._quiet_since

    def average(self, window: float, now: float) -> float:
        """Mean concurrency of the last `window` seconds, or of as much as was seen."""
        self._advance(now)
        count = max(1, math.ceil(window / self._bucket))
        recent = list(self._buckets)[-count:]
        return sum(recent) / len(recent) if recent else float(self.level)

    def _advance(self, now: float) -> None:
        if now - self._bucket_end > self._bucket * (self._buckets.maxlen or 1):
            # A gap longer than the window: what was before it no longer counts.
            self._buckets.clear()
            if self.level:
                self._buckets.append(float(self.level))
            self._area = 0.0
            self._since = now
            self._bucket_end = now + self._bucket
            return
        while now >= self._bucket_end:
            self._area += self.level * (self._bucket_end - self._since)
            self._buckets.append(self._area / self._bucket)
            self._area = 0.0
            self._since = self._bucket_end
            self._bucket_end += self._bucket
