"""How many processes a revision should have, by the rules of the Knative Pod Autoscaler. Pure.

Source: knative.dev/serving, pkg/autoscaler/scaling (autoscaler.go, multiscaler.go) and, for the scale to zero,
pkg/reconciler/autoscaling/kpa.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow_sandbox.serving.scale import Scale

# Knative's config-autoscaler defaults.
TICK_SECONDS = 2.0
BUCKET_SECONDS = 1.0
MAX_SCALE_UP_RATE = 1000.0
MAX_SCALE_DOWN_RATE = 2.0
DEFAULT_TARGET = 100.0
MIN_TARGET = 0.01


@dataclass(frozen=True)
class Limits:
    """A revision's scaling rules. Durations are in seconds, `target` in requests per process."""

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
        concurrency_target = scale.target or float(concurrency) or DEFAULT_TARGET
        if concurrency:
            concurrency_target = min(concurrency_target, float(concurrency))
        window = scale.window * time_scale
        max_scale = scale.min_scale if scale.by_cpu else scale.max_scale
        max_scale = min(max_scale or cap, cap)
        return cls(
            target=max(MIN_TARGET, concurrency_target * scale.target_utilization_percentage / 100),
            window=window,
            panic_window=window * scale.panic_window_percentage / 100,
            panic_threshold=scale.panic_threshold_percentage / 100,
            retention=scale.scale_to_zero_pod_retention_period * time_scale,
            scale_down_delay=scale.scale_down_delay * time_scale,
            min_scale=min(scale.min_scale, max_scale),
            max_scale=max_scale,
        )


@dataclass(frozen=True)
class Observation:
    """Average concurrency over the stable and the panic window, the number of ready processes, seconds without load.

    `quiet_for` is 0 while a request is in flight or waits for a process.
    """

    now: float
    stable: float
    panic: float
    ready: int
    quiet_for: float


@dataclass(frozen=True)
class Memory:
    """What a decision needs to know about earlier ones. `desired` has (time, number of processes) of each."""

    panic_until: float | None = None
    panic_peak: int = 0
    desired: tuple[tuple[float, int], ...] = ()


def decide(limits: Limits, observation: Observation, memory: Memory) -> tuple[int, Memory]:
    """The number of processes that there should be now."""
    ready = max(1, observation.ready)
    stable = math.ceil(observation.stable / limits.target)
    panic = math.ceil(observation.panic / limits.target)
    memory = _update_panic(limits, observation, memory, panic / ready, panic)
    desired = stable
    if memory.panic_until is not None:
        # A panic never scales down.
        desired = max(stable, panic, memory.panic_peak)
    desired = min(desired, math.ceil(ready * MAX_SCALE_UP_RATE))
    if observation.ready:
        desired = max(desired, math.floor(ready / MAX_SCALE_DOWN_RATE))
    desired, memory = _delay_scale_down(limits, observation.now, memory, desired)
    waiting = observation.quiet_for == 0
    if (observation.ready or waiting) and observation.quiet_for < limits.window + limits.retention:
        desired = max(desired, 1)
    return min(max(desired, limits.min_scale), limits.max_scale), memory


def _update_panic(
    limits: Limits, observation: Observation, memory: Memory, excess: float, desired: int
) -> Memory:
    if excess >= limits.panic_threshold:
        until = observation.now + limits.window
        return replace(memory, panic_until=until, panic_peak=max(memory.panic_peak, desired))
    if memory.panic_until is not None and observation.now >= memory.panic_until:
        return replace(memory, panic_until=None, panic_peak=0)
    return memory


def _delay_scale_down(limits: Limits, now: float, memory: Memory, desired: int) -> tuple[int, Memory]:
    """The highest number that was desired in the last `scale_down_delay` seconds."""
    if not limits.scale_down_delay:
        return desired, memory
    since = now - limits.scale_down_delay
    recent = (*(each for each in memory.desired if each[0] > since), (now, desired))
    return max(each for _, each in recent), replace(memory, desired=recent)


class Load:
    """A revision's concurrency over time, queued requests included: one time-weighted average per bucket, as in the
    queue-proxy.
    """

    def __init__(self, bucket: float, window: float, now: float) -> None:
        """`bucket` and `window` are in seconds."""
        self.level = 0
        self._bucket = bucket
        self._buckets: deque[float] = deque(maxlen=max(1, math.ceil(window / bucket)))
        self._area = 0.0
        self._since = now
        self._bucket_end = now + bucket
        self._quiet_since = now

    def change(self, by: int, now: float) -> None:
        """`by` requests arrived (positive) or ended (negative)."""
        if now >= self._bucket_end:
            self._advance(now)
        self._area += self.level * (now - self._since)
        self._since = now
        self.level += by
        if not self.level:
            self._quiet_since = now

    def wake(self, now: float) -> None:
        """A process has just become ready: the quiet time starts anew."""
        self._quiet_since = max(self._quiet_since, now)

    def quiet_for(self, now: float) -> float:
        """Seconds without a request in flight or queued."""
        return 0.0 if self.level else now - self._quiet_since

    def average(self, window: float, now: float) -> float:
        """Mean concurrency of the last `window` seconds, or of a shorter time where there is no more."""
        self._advance(now)
        count = max(1, math.ceil(window / self._bucket))
        recent = list(self._buckets)[-count:]
        return sum(recent) / len(recent) if recent else float(self.level)

    def _advance(self, now: float) -> None:
        if now - self._bucket_end > self._bucket * (self._buckets.maxlen or 1):
            # After a gap longer than the window, nothing before the gap counts.
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
