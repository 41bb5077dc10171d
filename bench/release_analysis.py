"""Command line: `python -m bench.release_analysis [--good N] [--bad N]`: error rates, power and duration of the
judgement of a release, simulated.

Each release has a seed of its own, so the same command prints the same figures. docs/reference/canary-trials.md has
the tables that this prints.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, tee
from math import exp, inf, lgamma, log, log1p
from random import Random
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

from orderflow.domain.release_analysis import (
    SIGN,
    AnalysisSettings,
    Count,
    Interval,
    SequentialTest,
    Verdict,
    e_values,
    orders_needed,
    presence,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETTINGS: Final = AnalysisSettings()
BASES: Final = (0.05, 0.001)
"""How often an order is rejected, and parked, at stable. Presence is the third test that shares alpha."""
TEST: Final = SequentialTest(SETTINGS, len(BASES) + 1)
STEPS: Final = (10, 50)
RATES: Final = {"5 a second": 300.0, "1 a second": 60.0, "1 in 5 s": 12.0, "1 a minute": 1.0}
"""Orders a minute."""
WORSE_BY: Final = (0.02, 0.05, 0.10, 1.0)
AGAIN: Final = 1.0
"""Minutes until an analysis has looked twice more, which a step needs to pass."""
PRINTED: Final = 50


@dataclass(frozen=True, slots=True)
class Shop:
    """rate: orders a minute. hours: how long a good release is watched. bad_hour: 20 % are rejected at both revisions
    in the second of four quarters. events: an order has so many events, all with the same outcome; routed_apart: each
    of them is routed by itself. Otherwise one delivery leaves so many rows and each is counted, as no caller may do."""

    rate: float
    hours: float = inf
    bad_hour: bool = False
    events: int = 1
    routed_apart: bool = True

    @property
    def interval(self) -> float:
        """In minutes: half a minute, or as long as 20 orders take, since the test waits for so many in any case."""
        return max(0.5, 20 / self.rate)


GOOD: Final = {
    "5 a second": Shop(300, 1),
    "1 a second": Shop(60, 4),
    "1 in 5 s": Shop(12, 12),
    "1 a minute": Shop(1, 48),
    "1 a second, 20 % rejected for an hour": Shop(60, 4, bad_hour=True),
    "1 a second, 3 events an order": Shop(60, 4, events=3),
    "1 a second, 3 rows a delivery, each counted (wrong)": Shop(60, 4, events=3, routed_apart=False),
}


@dataclass
class Release:
    """A release that goes on by the time: intervals() counts what its weight brings. worse_by: the canary's rate of
    rejected orders over stable's."""

    shop: Shop
    random: Random
    worse_by: float = 0.0
    weight: int = STEPS[0]
    minutes: float = 0.0
    met: int = 0
    activity: tuple[int, int] = (0, 0)
    totals: list[Interval] = field(
        default_factory=lambda: [Interval(Count(0, 0), Count(0, 0)) for _ in BASES]
    )

    def looks(self) -> Iterator[tuple[tuple[float, float], ...]]:
        """The e-values of all outcomes, whenever they change."""
        streams = tee(self.intervals(), len(BASES))
        return zip(*(self._outcome(stream, index) for index, stream in enumerate(streams)), strict=True)

    @staticmethod
    def _outcome(stream: Iterator[list[Interval]], index: int) -> Iterator[tuple[float, float]]:
        return e_values(intervals[index] for intervals in stream)

    def intervals(self) -> Iterator[list[Interval]]:
        while self.minutes < 60 * self.shop.hours:
            orders = self._draw(_poisson(self.shop.rate * self.shop.interval))
            self.minutes += self.shop.interval
            yield self._judged(orders)

    def step(self, weight: int) -> None:
        self.weight, self.activity = weight, (0, 0)

    def presence(self) -> Verdict:
        return presence(*self.activity, self.weight, SETTINGS, len(BASES)).verdict

    def _judged(self, orders: int) -> list[Interval]:
        bases = self._bases()
        if self.shop.events > 1 and self.shop.routed_apart:
            result = [self._apart(orders, base) for base in bases]
        else:
            at_canary = self._draw(_binomial(orders, self.weight / 100))
            excess = (self.worse_by, *(0.0,) * (len(bases) - 1))
            result = [
                Interval(self._count(at_canary, min(1.0, base + more)), self._count(orders - at_canary, base))
                for base, more in zip(bases, excess, strict=True)
            ]
        canary, stable = result[0].canary.total, result[0].stable.total
        self.met += canary
        self.activity = (self.activity[0] + canary, self.activity[1] + stable)
        self.totals = [_sum(*pair) for pair in zip(self.totals, result, strict=True)]
        return result

    def _count(self, orders: int, rate: float) -> Count:
        rows = self.shop.events
        return Count(rows * self._draw(_binomial(orders, rate)), rows * orders)

    def _apart(self, orders: int, base: float) -> Interval:
        events, share = self.shop.events * orders, self.weight / 100
        bad = self.shop.events * self._draw(_binomial(orders, base))
        canary_bad = self._draw(_binomial(bad, share))
        canary = canary_bad + self._draw(_binomial(events - bad, share))
        return Interval(Count(canary_bad, canary), Count(bad - canary_bad, events - canary))

    def _bases(self) -> Sequence[float]:
        quarter = 15 * self.shop.hours
        bad = self.shop.bad_hour and quarter <= self.minutes < 2 * quarter
        return (0.2, BASES[1]) if bad else BASES

    def _draw(self, cumulated: Sequence[float]) -> int:
        return bisect(cumulated, self.random.random())


def _sum(one: Interval, other: Interval) -> Interval:
    return Interval(
        Count(one.canary.bad + other.canary.bad, one.canary.total + other.canary.total),
        Count(one.stable.bad + other.stable.bad, one.stable.total + other.stable.total),
    )


@cache
def _binomial(total: int, rate: float) -> list[float]:
    """The cumulated probabilities of 0 to total - 1."""
    if rate in {0, 1}:
        return [1.0 - rate] * total
    whole = lgamma(total + 1)
    return list(
        accumulate(
            exp(whole - lgamma(k + 1) - lgamma(total - k + 1) + k * log(rate) + (total - k) * log1p(-rate))
            for k in range(total)
        )
    )


@cache
def _poisson(mean: float) -> list[float]:
    return list(
        accumulate(exp(k * log(mean) - mean - lgamma(k + 1)) for k in range(int(mean + 40 * mean**0.5)))
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.release_analysis")
    parser.add_argument("--good", type=int, default=2000, help="simulated releases in each row of good ones")
    parser.add_argument(
        "--bad", type=int, default=200, help="simulated releases in each row of the other tables"
    )
    options = parser.parse_args(arguments)
    _print_alarms(options.good)
    _print_releases(options.bad)
    _print_orders_to_find(options.bad)
    _print_time_to_fine(options.bad)
    _print_needed()
    return 0


def _print_alarms(releases: int) -> None:
    _print_row(
        "good releases", "watched for", "orders", "releases", "worse", "different", "ever a sign of harm"
    )
    _print_row(*["---"] * 7)
    first: list[str] = []
    for name, shop in GOOD.items():
        ends = [_watched(Release(shop, Random(f"{name} {seed}"))) for seed in range(releases)]  # noqa: S311
        rates = [f"{100 * sum(sign in end for end in ends) / releases:.2f} %" for sign in "WDs"]
        orders = f"{60 * shop.hours * shop.rate:,.0f}"
        _print_row(name, f"{shop.hours} h", orders, f"{releases:,}", *rates)
        first = first or ends[:PRINTED]
    print(f"\nThe first {len(first)} of the first row: {' '.join(first)}", end="\n\n")


def _watched(release: Release) -> str:
    """What was ever said of a release that is watched to the end: W worse, D different, s a sign of harm, - nothing.
    The weight rises in the middle."""
    said = set()
    for values in release.looks():
        if any(worse >= TEST.threshold for worse, _ in values) or release.presence() is Verdict.WORSE:
            said.add("W")
        if any(better >= TEST.threshold for _, better in values):
            said.add("D")
        if any(worse >= log(SIGN) for worse, _ in values):
            said.add("s")
        if release.weight == STEPS[0] and release.minutes >= 30 * release.shop.hours:
            release.step(STEPS[1])
    return "".join(sorted(said)) or "-"


def _print_releases(releases: int) -> None:
    titles = ("orders", "canary rejects", "back", "paused", "promoted", "open")
    _print_row(*titles, "minutes to the end: half, 9 of 10", "orders at the canary: half, 9 of 10")
    _print_row(*["---"] * 8)
    for name, rate in RATES.items():
        for worse_by in (0.0, *WORSE_BY):
            label = f"{name} {worse_by}"
            runs = [
                Release(Shop(rate, 1_000 / rate), Random(f"{label} {n}"), worse_by)  # noqa: S311
                for n in range(releases)
            ]
            ends = [_released(run) for run in runs]
            shares = [
                f"{100 * ends.count(end) / releases:.1f} %" for end in ("back", "paused", "promoted", "open")
            ]
            times = _half_and_most([run.minutes for run in runs])
            _print_row(
                name, f"{100 * worse_by:g} % more", *shares, times, _half_and_most([run.met for run in runs])
            )
    print()


def _released(release: Release) -> str:
    """How a release ends that passes its steps when all is fine. It is given up after 60,000 orders."""
    for values in release.looks():
        if any(worse >= TEST.threshold for worse, _ in values) or release.presence() is Verdict.WORSE:
            return "back"
        if any(better >= TEST.threshold for _, better in values):
            return "paused"
        if _is_fine(release, values):
            release.minutes += AGAIN
            if release.weight == STEPS[-1]:
                return "promoted"
            release.step(STEPS[STEPS.index(release.weight) + 1])
    return "open"


def _is_fine(release: Release, values: tuple[tuple[float, float], ...], test: SequentialTest = TEST) -> bool:
    if max(map(max, values)) >= log(SIGN) or release.presence() is not Verdict.FINE:
        return False
    return all(test.finds(total.canary.total, total.stable) for total in release.totals)


def _print_time_to_fine(releases: int) -> None:
    columns = ((10, 0.1), (50, 0.1), (50, 0.2))
    _print_row("orders", *(f"weight {weight}, margin {100 * margin:g} %" for weight, margin in columns))
    _print_row(*["---"] * 4)
    for name in ("1 in 5 s", "1 a minute"):
        cells = []
        for weight, margin in columns:
            test = SequentialTest(AnalysisSettings(margin=margin), TEST.tests)
            runs = [
                Release(Shop(RATES[name]), Random(f"{name} {weight} {n}"), weight=weight)  # noqa: S311
                for n in range(releases)
            ]
            cells.append(_half_and_most([_hours_to_fine(run, test) for run in runs]))
        _print_row(name, *cells)
    print()


def _hours_to_fine(release: Release, test: SequentialTest) -> float:
    """inf where the first verdict is another."""
    for values in release.looks():
        if max(map(max, values)) >= test.threshold or release.presence() is Verdict.WORSE:
            break
        if _is_fine(release, values, test):
            return release.minutes / 60
    return inf


def _print_orders_to_find(releases: int) -> None:
    _print_row("canary rejects", *(f"weight {weight}" for weight in (10, 25, 50)))
    _print_row(*["---"] * 4)
    for worse_by in WORSE_BY:
        cells = []
        for weight in (10, 25, 50):
            runs = [
                Release(Shop(60, 1_000), Random(f"{worse_by} {weight} {n}"), worse_by, weight)  # noqa: S311
                for n in range(releases)
            ]
            cells.append(_half_and_most([_orders_until_found(run) for run in runs]))
        _print_row(f"{100 * worse_by:g} % more", *cells)
    print()


def _orders_until_found(release: Release) -> float:
    for values in release.looks():
        if values[0][0] >= TEST.threshold:
            break
    return sum(release.activity)


def _print_needed() -> None:
    weights = (5, 10, 25, 50)
    _print_row("bad at stable", "margin", *(f"weight {weight}" for weight in weights))
    _print_row(*["---"] * 6)
    for margin in (0.1, 0.2):
        test = SequentialTest(AnalysisSettings(margin=margin), TEST.tests)
        for rate in (0.0, 0.01, 0.03, 0.05, 0.1, 0.2):
            needed = (orders_needed(test, rate, weight) for weight in weights)
            cells = ["-" if orders is None else f"{orders:,}" for orders in needed]
            _print_row(f"{100 * rate:g} %", f"{100 * margin:g} %", *cells)


def _half_and_most(values: Sequence[float]) -> str:
    return ", ".join(
        f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
        for value in (median(values), quantiles(values, n=10)[-1])
    )


def _print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
