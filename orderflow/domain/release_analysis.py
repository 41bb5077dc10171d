"""Whether a new revision treats orders worse than the one before: counts of outcomes, compared.

The comparison is Fisher's exact test, one-sided: given the number of bad orders at both revisions together, how
likely is it that the canary has so many of them or more if the revisions are equal? The test is exact for every
sample size. A release asks for several outcomes and asks many times, so alpha, the risk of a false alarm, is divided
by the number of these tests (Bonferroni).

A revision that takes deliveries and does nothing has no outcomes. The missing activity shows it: given the canary's
share of the deliveries, how likely is it that the canary has so little of all activity? (Binomial; every delivery is
routed independently.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import exp, lgamma, log, log1p
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from orderflow.domain.orders import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(StrEnum):
    WORSE = "worse"
    FINE = "fine"
    TOO_FEW = "too_few"
    """So few orders that even a clearly worse revision might not show yet."""


class AnalysisSettings(Frozen):
    """alpha: the risk of calling an equal revision worse, over the whole release, which is analysed `looks` times.

    tolerance: a difference of rates that never counts as worse, however significant it is.
    margin: the verdict is fine only once a canary that is worse by this much would have been found with the
    probability `power`.
    """

    minimum: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    looks: Annotated[int, Field(ge=1, le=10_000)] = 20
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.01
    margin: Annotated[float, Field(gt=0, le=1)] = 0.1
    power: Annotated[float, Field(gt=0, lt=1)] = 0.95


@dataclass(frozen=True)
class Count:
    bad: int
    total: int

    @property
    def rate(self) -> float:
        return self.bad / self.total if self.total else 0.0


@dataclass(frozen=True)
class Comparison:
    """One outcome at both revisions. detects: the canary's lowest rate that counts as worse; None if no rate does."""

    outcome: str
    canary: Count
    stable: Count
    probability: float
    detects: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Invariant:
    """What no revision may do, not even once. count: how often the canary did it."""

    name: str
    count: int

    @property
    def verdict(self) -> Verdict:
        return Verdict.WORSE if self.count > 0 else Verdict.FINE


@dataclass(frozen=True)
class Presence:
    """The activity of each revision while the canary had weight percent of the deliveries.

    probability: that the canary shows so little activity or less, if it shows half of its share.
    """

    canary: int
    stable: int
    weight: int
    probability: float
    verdict: Verdict


def compare(
    outcomes: Sequence[tuple[str, Count, Count]], settings: AnalysisSettings, other_tests: int = 0
) -> list[Comparison]:
    """Each outcome is (name, canary's count, stable's count). other_tests: further tests that share alpha."""
    threshold = _threshold(settings, len(outcomes) + other_tests)
    return [_comparison(name, canary, stable, settings, threshold) for name, canary, stable in outcomes]


def presence(
    canary: int, stable: int, weight: int, settings: AnalysisSettings, other_tests: int = 0
) -> Presence:
    """Worse: the canary certainly shows less than half of the activity of its share. weight is 1 to 99.

    Half, because duplicates and orders without a notification show no activity, and by chance one revision may get
    more of them. Too few: even a canary without any activity could not be found yet.
    """
    threshold, half = _threshold(settings, other_tests + 1), weight / 200
    total = canary + stable
    probability = _binomial_at_most(canary, total, half)
    verdict = Verdict.FINE if _binomial_at_most(0, total, half) < threshold else Verdict.TOO_FEW
    if probability < threshold:
        verdict = Verdict.WORSE
    return Presence(canary, stable, weight, probability, verdict)


def overall(results: Sequence[Comparison | Presence]) -> Verdict:
    """Worse if any result is worse; fine only if all are fine."""
    verdicts = {result.verdict for result in results}
    if Verdict.WORSE in verdicts:
        return Verdict.WORSE
    return Verdict.FINE if verdicts == {Verdict.FINE} else Verdict.TOO_FEW


def excess_probability(canary: Count, stable: Count) -> float:
    """P(the canary has this many bad orders or more), hypergeometric: the one-sided p-value of Fisher's test."""
    bad, total = canary.bad + stable.bad, canary.total + stable.total
    highest = min(bad, canary.total)
    all_ways = _log_choose(total, canary.total)
    ways = (
        exp(_log_choose(bad, k) + _log_choose(total - bad, canary.total - k) - all_ways)
        for k in range(canary.bad, highest + 1)
        if canary.total - k <= total - bad
    )
    return min(1.0, sum(ways))


def _threshold(settings: AnalysisSettings, tests: int) -> float:
    return settings.alpha / (settings.looks * max(1, tests))


def _binomial_at_most(count: int, total: int, share: float) -> float:
    """P(at most count of total)."""
    if share >= 1:
        return 1.0 if count >= total else 0.0
    ways = (
        exp(_log_choose(total, k) + k * log(share) + (total - k) * log1p(-share)) for k in range(count + 1)
    )
    return min(1.0, sum(ways))


def _comparison(
    name: str, canary: Count, stable: Count, settings: AnalysisSettings, threshold: float
) -> Comparison:
    probability = excess_probability(canary, stable)
    lowest = _lowest_worse_count(canary.total, stable, settings, threshold)
    power = 0.0
    if lowest is not None:
        power = 1 - _binomial_at_most(lowest - 1, canary.total, min(1.0, stable.rate + settings.margin))
    verdict = Verdict.TOO_FEW
    if _is_worse(canary, stable, settings, threshold):
        verdict = Verdict.WORSE
    elif min(canary.total, stable.total) >= settings.minimum and power >= settings.power:
        verdict = Verdict.FINE
    detects = lowest / canary.total if lowest is not None else None
    return Comparison(name, canary, stable, probability, detects, verdict)


def _is_worse(canary: Count, stable: Count, settings: AnalysisSettings, threshold: float) -> bool:
    if canary.rate - stable.rate <= settings.tolerance:
        return False
    return excess_probability(canary, stable) < threshold


def _lowest_worse_count(
    total: int, stable: Count, settings: AnalysisSettings, threshold: float
) -> int | None:
    """The lowest number of bad orders among total that makes a canary worse; None if no number does.

    A binary search: a larger number of bad orders never makes the canary look better.
    """
    low, high = 0, total + 1
    while low < high:
        middle = (low + high) // 2
        if middle <= total and not _is_worse(Count(middle, total), stable, settings, threshold):
            low = middle + 1
        else:
            high = middle
    return low if 0 < low <= total else None


def _log_choose(n: int, k: int) -> float:
    """The logarithm of the binomial coefficient."""
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
