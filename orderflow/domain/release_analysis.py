"""Whether a new revision treats orders worse than the one before: counts of what became of them, compared.

The test is Fisher's exact one, one-sided: given how many were bad in both together, how
likely is it that so many or more of them met the canary, were there no difference? It is
exact at any size. It is asked for several outcomes and again and again while a release
goes on, so the risk of a false alarm, alpha, is shared among all of these questions
(Bonferroni).

A revision that takes deliveries and does nothing has no outcomes. It is found by what it
does not leave: given the canary's share of the deliveries, how likely is it that so few of
all traces are its own? (Binomial; every delivery is shared out by itself.)
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
    """So few that even a clearly worse revision might not have shown yet."""


class Terms(Frozen):
    """alpha: risk of calling an equal revision worse, over the whole release, which is looked at `looks` times.

    tolerance: a difference of rates that is no reason to go back, however sure it is.
    margin: a canary that is worse by so much would have been found by now with the probability `power`, or else it is
    too early to say fine.
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
class Compared:
    """One outcome. detects is the canary's lowest rate that would have been called worse; None if none would."""

    outcome: str
    canary: Count
    stable: Count
    probability: float
    detects: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Presence:
    """How many traces each revision left while the canary had weight percent of the deliveries.

    probability: of so few at the canary, if it left half of what its share comes to.
    """

    canary: int
    stable: int
    weight: int
    probability: float
    verdict: Verdict


def compare(outcomes: Sequence[tuple[str, Count, Count]], terms: Terms, beside: int = 0) -> list[Compared]:
    """Each outcome as (name, canary's count, stable's count). beside: other questions that share the risk."""
    threshold = _threshold(terms, len(outcomes) + beside)
    return [_one(name, canary, stable, terms, threshold) for name, canary, stable in outcomes]


def presence(canary: int, stable: int, weight: int, terms: Terms, beside: int = 0) -> Presence:
    """Worse: the canary surely leaves less than half of what it should. weight is 1 to 99.

    Half, since duplicates and orders that a customer is not told of leave nothing, and chance may give one
    revision more of them. Too few: a canary that left nothing at all could not have been found yet.
    """
    threshold, half = _threshold(terms, beside + 1), weight / 200
    total = canary + stable
    probability = _at_most(canary, total, half)
    verdict = Verdict.FINE if _at_most(0, total, half) < threshold else Verdict.TOO_FEW
    if probability < threshold:
        verdict = Verdict.WORSE
    return Presence(canary, stable, weight, probability, verdict)


def overall(found: Sequence[Compared | Presence]) -> Verdict:
    """One that is worse suffices; all must be fine."""
    verdicts = {each.verdict for each in found}
    if Verdict.WORSE in verdicts:
        return Verdict.WORSE
    return Verdict.FINE if verdicts == {Verdict.FINE} else Verdict.TOO_FEW


def excess_probability(canary: Count, stable: Count) -> float:
    """P(as many bad ones or more at the canary), hypergeometric: the one-sided p-value of Fisher's test."""
    bad, total = canary.bad + stable.bad, canary.total + stable.total
    most = min(bad, canary.total)
    whole = _choices(total, canary.total)
    ways = (
        exp(_choices(bad, k) + _choices(total - bad, canary.total - k) - whole)
        for k in range(canary.bad, most + 1)
        if canary.total - k <= total - bad
    )
    return min(1.0, sum(ways))


def _threshold(terms: Terms, questions: int) -> float:
    return terms.alpha / (terms.looks * max(1, questions))


def _at_most(count: int, total: int, share: float) -> float:
    """P(at most count of total), binomial."""
    if share >= 1:
        return 1.0 if count >= total else 0.0
    ways = (exp(_choices(total, k) + k * log(share) + (total - k) * log1p(-share)) for k in range(count + 1))
    return min(1.0, sum(ways))


def _one(name: str, canary: Count, stable: Count, terms: Terms, threshold: float) -> Compared:
    probability = excess_probability(canary, stable)
    fewest = _fewest_that_are_worse(canary.total, stable, terms, threshold)
    found = 0.0
    if fewest is not None:
        found = 1 - _at_most(fewest - 1, canary.total, min(1.0, stable.rate + terms.margin))
    verdict = Verdict.TOO_FEW
    if _is_worse(canary, stable, terms, threshold):
        verdict = Verdict.WORSE
    elif min(canary.total, stable.total) >= terms.minimum and found >= terms.power:
        verdict = Verdict.FINE
    detects = fewest / canary.total if fewest is not None else None
    return Compared(name, canary, stable, probability, detects, verdict)


def _is_worse(canary: Count, stable: Count, terms: Terms, threshold: float) -> bool:
    if canary.rate - stable.rate <= terms.tolerance:
        return False
    return excess_probability(canary, stable) < threshold


def _fewest_that_are_worse(total: int, stable: Count, terms: Terms, threshold: float) -> int | None:
    """Of so many orders at the canary; None if not even all would do.

    By halving: more bad ones at the canary are never less of a sign.
    """
    low, high = 0, total + 1
    while low < high:
        middle = (low + high) // 2
        if middle <= total and not _is_worse(Count(middle, total), stable, terms, threshold):
            low = middle + 1
        else:
            high = middle
    return low if 0 < low <= total else None


def _choices(of: int, chosen: int) -> float:
    """The logarithm of the binomial coefficient."""
    return lgamma(of + 1) - lgamma(chosen + 1) - lgamma(of - chosen + 1)
