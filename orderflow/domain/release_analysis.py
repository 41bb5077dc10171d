"""Whether a new revision treats orders as the stable one does: counts of outcomes, compared as they come in.

The test is sequential: it holds however often somebody looks. Every delivery is routed at random. So, if the revisions
are equal, the number of bad orders at the canary in an interval of time is hypergeometric, given the interval's totals
and its bad orders at both revisions together. If the odds of a bad order at the canary are t times those at stable,
the number follows Fisher's noncentral hypergeometric distribution. The ratio of the two probabilities is an e-value:
its expectation is 1 if the revisions are equal. The product over the intervals is a martingale, and so is the mean of
the products over several t. By Ville's inequality, the mean ever reaches 1/a with probability a at most.

An interval says nothing about a rate that changes from one interval to the next, so a bad hour is no alarm. An order
with several events is no problem: the routing is random, not the outcome. But a delivery must be counted once, however
many rows it leaves.

A release has several tests. They share alpha, the risk of a false alarm in the whole release, in equal parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from math import exp, floor, inf, lgamma, log, log1p, sqrt
from operator import add
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from orderflow.domain.orders import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ODDS_RATIOS: Final = (1.3, 1.8, 3.0, 6.0, 30.0)
"""The canary's odds of a bad order over stable's, for `worse`; their reciprocals are for `better`."""
SHARES_LEFT: Final = (0.0, 0.0, 0.25, 0.5)
"""What is left of half of the canary's share, for `presence`. Nothing at all has twice the weight."""
SIGN: Final = 5.0
"""An e-value from here on is a first sign: a canary that equals stable ever reaches it with probability 0.2 at most."""
GROUP_ORDERS: Final = 20
GROUP_SHARE: Final = 0.02
"""Neighbouring intervals are one group until they have 20 orders and 2 % of the orders before them."""
ENOUGH: Final = 4_000
"""Power is first computed for so many orders: at the same rates more orders have more power."""
MOST_NEEDED: Final = 1_000_000
MINUTES_OF_A_YEAR: Final = 525_600
GREATEST: Final = 1e300
"""E-values are cut here, so that they are JSON numbers."""


class Verdict(StrEnum):
    WORSE = "worse"
    DIFFERENT = "different"
    """Surely fewer bad orders than at stable. The release may have mended something, or it checks nothing any more."""
    FINE = "fine"
    TOO_FEW = "too_few"
    """So few orders that even a clearly worse revision might not show yet."""


class AnalysisSettings(Frozen):
    """alpha: the risk that a canary that equals stable is ever called worse or different, in the whole release.

    margin: the verdict is fine only once a canary whose rate of bad orders is higher by this much would have been
    found with the probability `power`.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    margin: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


@dataclass(frozen=True, slots=True)
class Count:
    """How many deliveries ended badly, of how many. Raises ValueError where more are bad than there are."""

    bad: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.total:
            message = f"{self.bad} bad of {self.total}"
            raise ValueError(message)

    @property
    def rate(self) -> float:
        return self.bad / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Interval:
    """The counts of one interval of time. The interval is over: its counts do not change any more."""

    canary: Count
    stable: Count


@dataclass(frozen=True, slots=True)
class Comparison:
    """One outcome at both revisions.

    worse, better: the e-values of the two directions. needed: how many more judged orders, of both revisions together,
    the verdict fine needs; 0 where it is reached or a difference is sure; None where no number is enough, or none is
    known because the canary has no order yet. needed_at_half: how many the release needs in all at a weight of 50.
    """

    outcome: str
    canary: Count
    stable: Count
    worse: float
    better: float
    needed: int | None
    needed_at_half: int | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Presence:
    """The activity of each revision while the canary had weight percent of the deliveries.

    worse: the e-value of a canary that shows less than half of the activity of its share. needed: how many more
    effects, of both revisions together, the verdict fine needs.
    """

    canary: int
    stable: int
    weight: int
    worse: float
    needed: int | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Invariant:
    """What a correct revision never does, and how often the canary did it. Once is enough."""

    name: str
    count: int

    @property
    def verdict(self) -> Verdict:
        return Verdict.WORSE if self.count > 0 else Verdict.FINE


Result = Comparison | Presence | Invariant


def compare(
    outcomes: Sequence[tuple[str, Sequence[Interval]]],
    settings: AnalysisSettings,
    *,
    other_tests: int = 0,
    weight: int | None = None,
) -> list[Comparison]:
    """Each outcome is (name, intervals from the earliest to the latest). other_tests: further tests that share alpha.

    weight: the canary's present share of the deliveries in percent, for `needed`; without it, its share so far.
    """
    tests = len(outcomes) + other_tests
    test = SequentialTest(settings, tests)
    return [_comparison(name, intervals, test, weight) for name, intervals in outcomes]


def presence(
    canary: int, stable: int, weight: int, settings: AnalysisSettings, other_tests: int = 0
) -> Presence:
    """Worse: the canary surely shows less than half of the activity of its share. weight is 1 to 99, and all activity
    is counted since it took effect.

    Half, because duplicates and orders without a notification show no activity, and by chance one revision may get
    more of them. Too few: even a canary without any activity could not be found yet.
    """
    threshold = log((other_tests + 1) / settings.alpha)
    total = canary + stable
    evidence = _log_absence(canary, total, weight)
    if evidence >= threshold:
        return Presence(canary, stable, weight, _e_value(evidence), 0, Verdict.WORSE)
    needed = _smallest(lambda more: _log_absence(0, total + more, weight) >= threshold)
    if needed == 0 and evidence >= log(SIGN):
        needed = _needed_to_be_sure(
            total,
            lambda factor: _log_absence(round(canary * factor), round(total * factor), weight) >= threshold,
        )
    verdict = Verdict.FINE if needed == 0 else Verdict.TOO_FEW
    return Presence(canary, stable, weight, _e_value(evidence), needed, verdict)


def overall(results: Sequence[Result]) -> Verdict:
    """The gravest verdict: worse, different, too few. Fine only if all are fine."""
    verdicts = {result.verdict for result in results}
    for verdict in (Verdict.WORSE, Verdict.DIFFERENT):
        if verdict in verdicts:
            return verdict
    return Verdict.FINE if verdicts == {Verdict.FINE} else Verdict.TOO_FEW


def harm(results: Sequence[Result]) -> bool:
    """A first sign of harm, although the verdict may not be worse yet. Surely fewer bad orders are one as well: the
    release may check nothing any more."""
    return any(
        result.count > 0
        if isinstance(result, Invariant)
        else result.worse >= SIGN or result.verdict is Verdict.DIFFERENT
        for result in results
    )


def sentence(results: Sequence[Result], since: datetime | None, now: datetime) -> str:
    """What the verdict rests on, in one sentence. since: from when the results are counted; for the rate of orders."""
    verdict = overall(results)
    if verdict is Verdict.TOO_FEW:
        return _too_few(results, since, now)
    parts = [_figures(result) for result in results if result.verdict is verdict]
    return f"{', '.join(parts)}: {_CONCLUSIONS[verdict]}"


_CONCLUSIONS: Final = {
    Verdict.WORSE: "worse",
    Verdict.DIFFERENT: "surely fewer than at stable, so a person has to look",
    Verdict.FINE: "fine",
}


def _figures(result: Result) -> str:
    match result:
        case Comparison():
            canary, stable = result.canary, result.stable
            return (
                f"{result.outcome} {canary.bad} of {canary.total} at the canary"
                f" against {stable.bad} of {stable.total}"
            )
        case Presence():
            total = result.canary + result.stable
            return f"{result.canary} of {total} effects come from the canary at a weight of {result.weight}"
        case Invariant():
            return f"{result.name} {result.count}"


def _too_few(results: Sequence[Result], since: datetime | None, now: datetime) -> str:
    """The result that needs the most orders is the one that is told."""
    waiting = [result for result in results if not isinstance(result, Invariant) and result.needed != 0]
    unknown = next((result for result in waiting if result.needed is None), None)
    if not waiting:
        return "too few: nothing was counted"
    if unknown is not None:
        return f"too few: {_figures(unknown)}, and it is not known how many orders are enough"
    last = max(waiting, key=lambda result: result.needed or 0)
    needed, orders, unit = last.needed or 0, _orders(last), _unit(last)
    text = f"too few: {orders} of about {orders + needed} {unit}"
    text += "".join(f", and {_figures(r)} is a first sign of a difference" for r in waiting if _has_sign(r))
    minutes = (now - since).total_seconds() / 60 if since is not None else 0
    if orders and minutes > 0:
        rate = orders / minutes
        text += f"; at {rate:.2g} {unit} a minute the other {needed} come {_when(needed / rate, now)}"
    half = last.needed_at_half if isinstance(last, Comparison) else None
    if half is not None and half < orders + needed:
        text += f"; a first weight of 50 needs about {half}"
    return text


def _orders(result: Comparison | Presence) -> int:
    if isinstance(result, Comparison):
        return result.canary.total + result.stable.total
    return result.canary + result.stable


def _unit(result: Comparison | Presence) -> str:
    return "orders" if isinstance(result, Comparison) else "effects"


def _has_sign(result: Comparison | Presence) -> bool:
    better = result.better if isinstance(result, Comparison) else 0.0
    return max(result.worse, better) >= SIGN


def _when(minutes: float, now: datetime) -> str:
    if minutes > MINUTES_OF_A_YEAR:
        return "in more than a year"
    now = now.astimezone(UTC)
    moment = now + timedelta(minutes=minutes)
    form = "%H:%M UTC" if moment.date() == now.date() else "%Y-%m-%d %H:%M UTC"
    return f"by about {moment.strftime(form)}"


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """The test of one outcome. tests: how many tests of the release share alpha; this one halves its part, for the two
    directions."""

    settings: AnalysisSettings
    tests: int

    @property
    def threshold(self) -> float:
        """The logarithm of the e-value at which a difference is sure."""
        return log(2 * self.tests / self.settings.alpha)

    def finds(self, canary_total: int, stable: Count) -> bool:
        """Whether a canary that is worse by the margin is found with this many orders.

        The canary gets the number of bad orders that it exceeds with the probability `power`. The rate of stable is
        estimated with one bad and one good order more than were seen (Laplace), so that 0 of few is not 0.
        """
        orders = canary_total + stable.total
        parts = (ENOUGH / orders, 1.0) if orders > ENOUGH else (1.0,)
        base = (stable.bad + 1) / (stable.total + 2)
        return any(
            self._finds(round(canary_total * part), round(stable.total * part), base) for part in parts
        )

    def _finds(self, canary_total: int, stable_total: int, base: float) -> bool:
        if not canary_total or not stable_total:
            return False
        bad = self._bad_at_least(canary_total, stable_total, base)
        interval = Interval(
            Count(min(bad, canary_total), canary_total), Count(round(base * stable_total), stable_total)
        )
        return _log_mean(_log_ratios(interval)[0]) >= self.threshold

    def _bad_at_least(self, canary_total: int, stable_total: int, base: float) -> int:
        """The number of bad orders that a canary worse by the margin exceeds with the probability `power`.

        A binomial quantile. Its distance from the mean grows with the deviation that stable's own rate has by chance.
        """
        rate = base + self.settings.margin
        if rate >= 1:
            return canary_total
        mean = canary_total * rate
        quantile = _low_quantile(canary_total, rate, 1 - self.settings.power)
        of_stable = base * (1 - base) * canary_total / stable_total
        return max(0, floor(mean - (mean - quantile) * sqrt(1 + of_stable / (rate * (1 - rate)))))

    def is_sure(self, canary: Count, stable: Count, factor: float) -> bool:
        """Whether a difference is sure once there are so many times the orders at the same rates."""
        ratios = _log_ratios(Interval(_times(canary, factor), _times(stable, factor)))
        return max(map(_log_mean, ratios)) >= self.threshold


def e_values(intervals: Iterable[Interval]) -> Iterator[tuple[float, float]]:
    """The logarithms of the e-values of worse and of better, after each complete group of intervals."""
    worse = better = (0.0,) * len(ODDS_RATIOS)
    for group in _groups(intervals):
        above, below = _log_ratios(group)
        worse = tuple(map(add, worse, above))
        better = tuple(map(add, better, below))
        yield _log_mean(worse), _log_mean(better)


def _comparison(
    name: str, intervals: Sequence[Interval], test: SequentialTest, weight: int | None
) -> Comparison:
    worse, better = 0.0, 0.0
    for worse, better in e_values(intervals):  # noqa: B007 - the last ones count
        pass
    canary, stable = _sum([i.canary for i in intervals]), _sum([i.stable for i in intervals])
    needed: int | None = 0
    if worse >= test.threshold:
        verdict = Verdict.WORSE
    elif better >= test.threshold:
        verdict = Verdict.DIFFERENT
    else:
        needed = _needed(canary, stable, test, weight)
        if needed == 0 and max(worse, better) >= log(SIGN):
            needed = _needed_to_be_sure(
                canary.total + stable.total, lambda factor: test.is_sure(canary, stable, factor)
            )
        verdict = Verdict.FINE if needed == 0 else Verdict.TOO_FEW
    half = orders_needed(test, stable.rate, 50)
    return Comparison(name, canary, stable, _e_value(worse), _e_value(better), needed, half, verdict)


def orders_needed(test: SequentialTest, rate: float, weight: int) -> int | None:
    """How many judged orders of both revisions fine needs from the start, if so many of stable's are bad."""

    def finds(orders: int) -> bool:
        stable = orders - round(orders * weight / 100)
        return test.finds(orders - stable, Count(round(rate * stable), stable))

    return _smallest(finds)


def _groups(intervals: Iterable[Interval]) -> Iterator[Interval]:
    """Neighbouring intervals together, as long as they are few; the last group is left out until it is complete.

    Where a group ends depends on the orders of both revisions together, never on how they were routed or treated. So
    the number of bad orders at the canary is hypergeometric in a group as well. (Where the weight changes within a
    group, that needs a rate that does not change with it.) A group of one order would say nothing.
    """
    before = canary_bad = canary_total = stable_bad = stable_total = 0
    for interval in intervals:
        canary_bad += interval.canary.bad
        canary_total += interval.canary.total
        stable_bad += interval.stable.bad
        stable_total += interval.stable.total
        size = canary_total + stable_total
        if size >= max(GROUP_ORDERS, GROUP_SHARE * before):
            yield Interval(Count(canary_bad, canary_total), Count(stable_bad, stable_total))
            before += size
            canary_bad = canary_total = stable_bad = stable_total = 0


def _needed(canary: Count, stable: Count, test: SequentialTest, weight: int | None) -> int | None:
    orders = canary.total + stable.total
    share = weight / 100 if weight is not None else canary.total / max(1, orders)
    if share == 0:
        return None

    def finds(more: int) -> bool:
        at_canary = round(more * share)
        return test.finds(canary.total + at_canary, _projected(stable, more - at_canary))

    return _smallest(finds)


def _needed_to_be_sure(orders: int, is_sure: Callable[[float], bool]) -> int | None:
    """How many more orders decide about a sign of a difference, if the rates stay as they are; at least 1.

    is_sure: takes the factor by which the orders have become more.
    """
    needed = _smallest(lambda more: is_sure(1 + more / orders))
    return None if needed is None else max(1, needed)


def _smallest(holds: Callable[[int], bool]) -> int | None:
    """The smallest number for which the condition holds, if it holds for all greater ones; None if there is none."""
    if holds(0):
        return 0
    low, high = 0, 16
    while not holds(high):
        low, high = high, high * 2
        if high > MOST_NEEDED:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _sum(counts: Sequence[Count]) -> Count:
    return Count(sum([count.bad for count in counts]), sum([count.total for count in counts]))


def _times(count: Count, factor: float) -> Count:
    return Count(round(count.bad * factor), round(count.total * factor))


def _projected(count: Count, more: int) -> Count:
    """The count after so many more orders, at the rate that was seen."""
    return Count(count.bad + round(count.rate * more), count.total + more)


def _log_ratios(interval: Interval) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The logarithms of the probability ratios for the odds ratios above 1, and for their reciprocals."""
    canary, stable = interval.canary, interval.stable
    above, below = _log_means(canary.total, stable.total, canary.bad + stable.bad)
    return (
        tuple(canary.bad * log(t) - mean for t, mean in zip(ODDS_RATIOS, above, strict=True)),
        tuple(-canary.bad * log(t) - mean for t, mean in zip(ODDS_RATIOS, below, strict=True)),
    )


@lru_cache(maxsize=100_000)
def _log_means(canary: int, stable: int, bad: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """log E[t^K] for K bad orders at the canary, hypergeometric: for the odds ratios t, and for their reciprocals."""
    low, high = max(0, bad - stable), min(bad, canary)
    steps = [
        (canary - k) * (bad - k) / ((k + 1) * (stable - bad + k + 1)) for k in range(high - 1, low - 1, -1)
    ]
    whole = _log_sum(steps, 1.0)
    return (
        tuple(low * log(t) + _log_sum(steps, t) - whole for t in ODDS_RATIOS),
        tuple(-low * log(t) + _log_sum(steps, 1 / t) - whole for t in ODDS_RATIOS),
    )


def _log_sum(steps: Sequence[float], odds: float) -> float:
    """The logarithm of the sum of P(k) odds^(k-low) / P(low). steps: P(k+1) / P(k), from the highest k to the lowest.

    The sum is nested (Horner), and cut by a factor before it overflows. The terms rise to one peak and fall, so what
    the factor makes zero has no part in the sum.
    """
    total, one, cuts = 1.0, 1.0, 0
    for step in steps:
        total = one + odds * step * total
        if total > 1e150:  # noqa: PLR2004
            total, one, cuts = total * 1e-150, one * 1e-150, cuts + 1
    return log(total) + cuts * 150 * log(10)


def _log_absence(canary: int, total: int, weight: int) -> float:
    half = weight / 200
    stable = total - canary
    logs = [
        (canary * log(left) if left > 0 else -inf if canary else 0.0)
        + stable * (log1p(-left * half) - log1p(-half))
        for left in SHARES_LEFT
    ]
    return _log_mean(logs)


def _log_mean(logs: Sequence[float]) -> float:
    """The logarithm of the mean of the numbers with these logarithms."""
    highest = max(logs)
    return highest + log(sum(exp(value - highest) for value in logs) / len(logs))


def _e_value(logarithm: float) -> float:
    return exp(min(logarithm, log(GREATEST)))


def _low_quantile(total: int, rate: float, probability: float) -> int:
    """The highest number that a binomial count falls short of with this probability at most."""
    if rate >= 1 or total == 0:
        return total
    start = max(0, int(total * rate - 10 * sqrt(total * rate * (1 - rate)) - 10))
    below = 0.0
    for k in range(start, total + 1):
        below += exp(_log_choose(total, k) + k * log(rate) + (total - k) * log1p(-rate))
        if below > probability:
            return k
    return total


def _log_choose(n: int, k: int) -> float:
    """The logarithm of the binomial coefficient."""
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
