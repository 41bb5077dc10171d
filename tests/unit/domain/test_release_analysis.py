"""The comparison of two revisions by the outcomes of their orders."""

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.domain.release_analysis import (
    AnalysisSettings,
    Count,
    Verdict,
    compare,
    excess_probability,
    overall,
    presence,
)

COUNTS = st.integers(1, 200).flatmap(lambda n: st.builds(Count, st.integers(0, n), st.just(n)))


def verdict(canary: Count, stable: Count, **settings: float) -> Verdict:
    return compare([("rejected", canary, stable)], AnalysisSettings.model_validate(settings))[0].verdict


@given(canary=COUNTS, stable=COUNTS)
def test_the_probability_is_that_of_the_definition(canary: Count, stable: Count) -> None:
    bad, total = canary.bad + stable.bad, canary.total + stable.total
    ways = sum(
        comb(bad, k) * comb(total - bad, canary.total - k)
        for k in range(canary.bad, min(bad, canary.total) + 1)
    )
    assert excess_probability(canary, stable) == pytest.approx(ways / comb(total, canary.total), rel=1e-6)


def test_the_lady_tasting_tea() -> None:
    """Fisher's own example: 3 of 4 right has 17/70."""
    assert excess_probability(Count(3, 4), Count(1, 4)) == pytest.approx(17 / 70)


@given(stable=COUNTS, total=st.integers(1, 200), data=st.data())
def test_detects_is_the_lowest_rate_that_is_worse(stable: Count, total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, total))
    (comparison,) = compare([("rejected", Count(bad, total), stable)], AnalysisSettings())
    worse = comparison.verdict is Verdict.WORSE
    assert worse == (comparison.detects is not None and bad / total >= comparison.detects)


def test_one_in_ten_wrongly_rejected_is_found_within_a_hundred_orders() -> None:
    assert verdict(Count(10, 100), Count(9, 900)) is Verdict.WORSE


def test_without_any_order_the_verdict_is_too_few() -> None:
    assert verdict(Count(0, 0), Count(0, 900)) is Verdict.TOO_FEW
    assert verdict(Count(0, 900), Count(0, 0)) is Verdict.TOO_FEW


def test_the_minimum_applies_to_both_revisions() -> None:
    assert verdict(Count(0, 49), Count(0, 900)) is Verdict.TOO_FEW
    assert verdict(Count(0, 900), Count(0, 49)) is Verdict.TOO_FEW


def test_enough_by_number_but_too_few_to_have_found_the_margin_is_too_few() -> None:
    assert verdict(Count(0, 50), Count(0, 50)) is Verdict.TOO_FEW
    assert verdict(Count(0, 100), Count(0, 100)) is Verdict.TOO_FEW
    assert verdict(Count(0, 200), Count(1, 400)) is Verdict.FINE


@pytest.mark.parametrize("stable_for_each", [1, 9])
@pytest.mark.parametrize("size", [60, 130, 200, 400])
def test_a_canary_that_is_worse_by_the_margin_is_seldom_called_fine(size: int, stable_for_each: int) -> None:
    """Of 400 releases whose canary rejects 10 % more: the twentieth that the power allows, and chance."""
    rolls = random.Random(size)  # noqa: S311 - not for secrets

    def counted(total: int, rate: float) -> Count:
        return Count(sum(rolls.random() < rate for _ in range(total)), total)

    verdicts = [
        verdict(counted(size, 0.13), counted(size * stable_for_each, 0.03), looks=60) for _ in range(400)
    ]
    assert verdicts.count(Verdict.FINE) <= 32


def test_a_significant_difference_within_the_tolerance_is_fine() -> None:
    assert verdict(Count(1_500, 100_000), Count(9_000, 900_000), tolerance=0.01) is Verdict.FINE
    assert verdict(Count(1_500, 100_000), Count(9_000, 900_000), tolerance=0.001) is Verdict.WORSE


def test_a_few_that_are_all_bad_are_worse_before_the_minimum_is_reached() -> None:
    assert verdict(Count(8, 8), Count(0, 100)) is Verdict.WORSE


def test_one_worse_outcome_is_enough_and_all_must_be_fine() -> None:
    fine, few, worse = (
        (Count(0, 500), Count(0, 500)),
        (Count(0, 1), Count(0, 500)),
        (Count(99, 500), Count(0, 500)),
    )
    assert overall(compare([("a", *fine), ("b", *worse)], AnalysisSettings())) is Verdict.WORSE
    assert overall(compare([("a", *fine), ("b", *few)], AnalysisSettings())) is Verdict.TOO_FEW
    assert overall(compare([("a", *fine), ("b", *fine)], AnalysisSettings())) is Verdict.FINE
    assert overall([]) is Verdict.TOO_FEW


def test_an_equal_revision_is_called_worse_no_more_often_than_promised_over_a_whole_release() -> None:
    """500 releases of equal revisions, 20 looks each, 3 % bad: alpha is 5 %, seeded."""
    draw, alarms = random.Random(6), 0  # noqa: S311 - no secret
    for _ in range(500):
        canary = stable = Count(0, 0)
        for _ in range(20):
            canary = Count(canary.bad + sum(draw.random() < 0.03 for _ in range(10)), canary.total + 10)
            stable = Count(stable.bad + sum(draw.random() < 0.03 for _ in range(30)), stable.total + 30)
            if verdict(canary, stable) is Verdict.WORSE:
                alarms += 1
                break
    assert alarms / 500 <= 0.05


@given(canary=st.integers(0, 300), stable=st.integers(0, 300), weight=st.integers(1, 99))
def test_the_probability_of_so_little_activity_is_that_of_the_definition(
    canary: int, stable: int, weight: int
) -> None:
    total, half = canary + stable, weight / 200
    ways = sum(comb(total, k) * half**k * (1 - half) ** (total - k) for k in range(canary + 1))
    assert presence(canary, stable, weight, AnalysisSettings()).probability == pytest.approx(
        ways, rel=1e-6, abs=1e-300
    )


def test_a_canary_that_takes_its_share_and_shows_no_activity_is_worse() -> None:
    assert presence(0, 200, 10, AnalysisSettings()).verdict is Verdict.WORSE


def test_without_activity_of_the_canary_and_with_little_of_stable_the_verdict_is_too_few() -> None:
    assert presence(0, 40, 10, AnalysisSettings()).verdict is Verdict.TOO_FEW
    assert presence(0, 0, 50, AnalysisSettings()).verdict is Verdict.TOO_FEW


def test_a_canary_with_the_activity_of_its_share_is_fine() -> None:
    assert presence(20, 180, 10, AnalysisSettings()).verdict is Verdict.FINE
    assert presence(60, 540, 10, AnalysisSettings(looks=100)).verdict is Verdict.FINE


def test_a_canary_that_loses_most_of_its_share_is_worse_and_one_that_loses_a_tenth_is_for_the_audit() -> None:
    assert presence(40, 1800, 10, AnalysisSettings()).verdict is Verdict.WORSE
    assert presence(180, 1800, 10, AnalysisSettings()).verdict is Verdict.FINE


@given(stable=st.integers(0, 500), weight=st.integers(1, 99), data=st.data())
def test_more_activity_of_the_canary_never_makes_it_worse(
    stable: int, weight: int, data: st.DataObject
) -> None:
    canary = data.draw(st.integers(0, 300))
    now, more = (presence(n, stable, weight, AnalysisSettings()).verdict for n in (canary, canary + 1))
    assert not (now is Verdict.FINE and more is Verdict.WORSE)


def test_a_further_test_takes_its_part_of_the_risk_from_all() -> None:
    alone, third = (
        presence(0, 119, 10, AnalysisSettings()),
        presence(0, 119, 10, AnalysisSettings(), other_tests=2),
    )
    assert (alone.verdict, third.verdict) == (Verdict.WORSE, Verdict.TOO_FEW)
    near = [("rejected", Count(3, 40), Count(0, 360))]
    (one,), (two,) = (
        compare(near, AnalysisSettings(looks=30)),
        compare(near, AnalysisSettings(looks=30), other_tests=1),
    )
    assert one.probability == two.probability
    assert (one.verdict, two.verdict) == (Verdict.WORSE, Verdict.TOO_FEW)
