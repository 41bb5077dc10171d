"""The autoscaler decides as Knative's does; durations here are seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orderflow_sandbox.serving.autoscaler import Limits, Load, Memory, Observation, decide
from orderflow_sandbox.serving.scale import Scale

LIMITS = Limits(
    target=7,
    window=60,
    panic_window=6,
    panic_threshold=2,
    retention=0,
    scale_down_delay=0,
    min_scale=0,
    max_scale=10,
)


def observation(
    stable: float, panic: float, ready: int, quiet_for: float = 0, now: float = 1000
) -> Observation:
    return Observation(now=now, stable=stable, panic=panic, ready=ready, quiet_for=quiet_for)


@pytest.mark.parametrize(
    ("rule", "observed", "limits", "desired"),
    [
        ("nothing ever came", observation(0, 0, 0, 1), LIMITS, 0),
        ("the first request waits for a process", observation(0, 0, 0, 0), LIMITS, 1),
        ("the target is not exceeded", observation(7, 7, 1), LIMITS, 1),
        ("the stable average exceeds it", observation(8, 8, 1), LIMITS, 2),
        ("a burst over twice what is ready counts at once", observation(1, 28, 1), LIMITS, 4),
        ("a burst below twice does not", observation(14, 20, 2), LIMITS, 2),
        ("never above max-scale", observation(900, 900, 1), LIMITS, 10),
        ("never below min-scale", observation(0, 0, 3, 999), replace(LIMITS, min_scale=2), 2),
        ("down to half at most", observation(7, 7, 9), LIMITS, 4),
        ("one stays while the window is not over", observation(0, 0, 1, 59), LIMITS, 1),
        ("none stays once it is", observation(0, 0, 1, 60), LIMITS, 0),
        ("the retention period comes on top", observation(0, 0, 1, 89), replace(LIMITS, retention=30), 1),
        ("and ends", observation(0, 0, 1, 90), replace(LIMITS, retention=30), 0),
    ],
)
def test_a_decision(rule: str, observed: Observation, limits: Limits, desired: int) -> None:
    assert decide(limits, observed, Memory())[0] == desired, rule


def test_a_panic_never_scales_down_and_ends_a_window_after_the_last_excess() -> None:
    desired, memory = decide(LIMITS, observation(1, 28, 1), Memory())
    assert desired == 4
    desired, memory = decide(LIMITS, observation(1, 0, 4, now=1059), memory)
    assert desired == 4
    desired, memory = decide(LIMITS, observation(1, 0, 4, now=1060), memory)
    assert desired == 2
    assert memory == Memory()


def test_a_scale_down_delay_keeps_the_highest_number() -> None:
    limits = replace(LIMITS, scale_down_delay=10)
    desired, memory = decide(limits, observation(21, 21, 3), Memory())
    assert desired == 3
    desired, memory = decide(limits, observation(1, 1, 3, now=1009), memory)
    assert desired == 3
    desired, _ = decide(limits, observation(1, 1, 3, now=1011), memory)
    assert desired == 1


@pytest.mark.parametrize(
    ("annotations", "concurrency", "target"),
    [
        ({}, 0, 70),
        ({}, 10, 7),
        ({"target": "20"}, 0, 14),
        ({"target": "20"}, 10, 7),
        ({"target": "20", "target-utilization-percentage": "100"}, 0, 20),
    ],
)
def test_the_target_is_what_annotations_and_concurrency_leave(
    annotations: dict[str, str], concurrency: int, target: float
) -> None:
    scale = Scale.model_validate(annotations)
    assert Limits.of(scale, concurrency, cap=2, time_scale=1).target == pytest.approx(target)


def test_the_cap_of_the_machine_holds_over_the_manifest() -> None:
    scale = Scale.model_validate({"min-scale": "3", "max-scale": "20", "window": "6s"})
    limits = Limits.of(scale, 0, cap=2, time_scale=0.5)
    assert (limits.min_scale, limits.max_scale, limits.window) == (2, 2, 3)


def test_concurrency_is_averaged_by_time() -> None:
    load = Load(bucket=1, window=4, now=0)
    load.change(+2, 0)
    load.change(-2, 0.5)
    load.change(+4, 1)
    assert load.average(4, 2) == pytest.approx((1 + 4) / 2)
    assert load.average(1, 2) == pytest.approx(4)


def test_quiet_begins_with_the_last_answer() -> None:
    load = Load(bucket=1, window=4, now=0)
    load.change(+1, 1)
    assert load.quiet_for(5) == 0
    load.change(-1, 6)
    assert load.quiet_for(8) == pytest.approx(2)


def test_what_is_older_than_the_window_does_not_count() -> None:
    load = Load(bucket=1, window=4, now=0)
    load.change(+9, 0)
    load.change(-9, 2)
    assert load.average(4, 100) == 0


def test_by_cpu_there_is_the_min_scale_all_the_time() -> None:
    annotations = {"class": "hpa.autoscaling.knative.dev", "metric": "cpu", "target": "80", "min-scale": "1"}
    limits = Limits.of(Scale.model_validate(annotations), 32, cap=2, time_scale=1)
    for stable, quiet in ((0, 10_000), (32, 0), (320, 0)):
        observed = Observation(now=10_000, stable=stable, panic=stable, ready=1, quiet_for=quiet)
        assert decide(limits, observed, Memory())[0] == 1
