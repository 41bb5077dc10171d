"""The comparison of two revisions by the outcomes of their orders."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import comb, exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orderflow.domain.release_analysis import (
    ODDS_RATIOS,
    SIGN,
    AnalysisSettings,
    Comparison,
    Count,
    Interval,
    Invariant,
    Presence,
    Result,
    SequentialTest,
    Verdict,
    compare,
    e_values,
    harm,
    orders_needed,
    overall,
    presence,
    sentence,
)

SETTINGS = AnalysisSettings()
NOW = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
COUNTS = st.integers(0, 60).flatmap(lambda n: st.builds(Count, st.integers(0, n), st.just(n)))
INTERVALS = st.lists(st.builds(Interval, COUNTS, COUNTS), max_size=12)


def judge(*intervals: Interval, **settings: float) -> Comparison:
    terms = AnalysisSettings.model_validate(settings)
    return compare([("rejected", list(intervals))], terms)[0]


def at_once(canary: Count, stable: Count, **settings: float) -> Comparison:
    return judge(Interval(canary, stable), **settings)


def evidence(canary: Count, stable: Count) -> tuple[float, float]:
    """The e-values of worse and of better."""
    ((worse, better),) = e_values([Interval(canary, stable)])
    return exp(worse), exp(better)


def drawn(random_source: random.Random, total: int, rate: float) -> Count:
    return Count(sum(random_source.random() < rate for _ in range(total)), total)


# The e-values


@pytest.mark.parametrize(("canary", "stable"), [(10, 10), (2, 18), (19, 1), (7, 30), (25, 0)])
def test_the_expectation_of_both_e_values_is_one_if_the_revisions_are_equal(canary: int, stable: int) -> None:
    """All ways to draw the canary's orders, for every number of bad ones."""
    for bad in range(canary + stable + 1):
        means = [0.0, 0.0]
        for k in range(max(0, bad - stable), min(bad, canary) + 1):
            ways = comb(bad, k) * comb(canary + stable - bad, canary - k)
            probability = float(Fraction(ways, comb(canary + stable, canary)))
            for side, value in enumerate(evidence(Count(k, canary), Count(bad - k, stable))):
                means[side] += probability * value
        assert means == pytest.approx([1, 1], rel=1e-9)


@pytest.mark.parametrize(("canary", "stable", "k", "bad"), [(10, 12, 4, 5), (5, 40, 5, 20), (18, 3, 9, 11)])
def test_an_e_value_is_the_mean_of_the_ratios_of_the_noncentral_and_the_central_probability(
    canary: int, stable: int, k: int, bad: int
) -> None:
    def probability(odds: float) -> float:
        weights = {
            j: comb(canary, j) * comb(stable, bad - j) * odds**j
            for j in range(max(0, bad - stable), min(bad, canary) + 1)
        }
        return weights[k] / sum(weights.values())

    worse = sum(probability(t) for t in ODDS_RATIOS) / len(ODDS_RATIOS) / probability(1)
    better = sum(probability(1 / t) for t in ODDS_RATIOS) / len(ODDS_RATIOS) / probability(1)
    assert evidence(Count(k, canary), Count(bad - k, stable)) == pytest.approx((worse, better), rel=1e-9)


@given(canary=COUNTS, stable=COUNTS)
def test_what_is_worse_at_one_revision_is_better_at_the_other(canary: Count, stable: Count) -> None:
    one, other = (
        judge(Interval(canary, stable), Interval(canary, stable)),
        judge(Interval(stable, canary), Interval(stable, canary)),
    )
    assert (one.worse, one.better) == pytest.approx((other.better, other.worse), rel=1e-6)


@given(canary=COUNTS, stable=COUNTS)
def test_one_more_bad_order_at_the_canary_never_makes_it_look_better(canary: Count, stable: Count) -> None:
    if canary.bad == canary.total:
        return
    now = at_once(canary, stable)
    more = at_once(Count(canary.bad + 1, canary.total), stable)
    assert more.worse >= now.worse * (1 - 1e-9)
    assert more.better <= now.better * (1 + 1e-9)


@given(canary=COUNTS, stable=COUNTS)
def test_one_more_bad_order_at_stable_never_makes_the_canary_look_worse(canary: Count, stable: Count) -> None:
    if stable.bad == stable.total:
        return
    now = at_once(canary, stable)
    more = at_once(canary, Count(stable.bad + 1, stable.total))
    assert more.worse <= now.worse * (1 + 1e-9)
    assert more.better >= now.better * (1 - 1e-9)


def test_the_e_values_of_many_bad_orders_are_numbers() -> None:
    result = at_once(Count(40_000, 50_000), Count(2_000, 50_000))
    assert result.verdict is Verdict.WORSE
    assert 1e299 < result.worse < float("inf")
    assert 0 <= result.better < 1e-9


# Intervals


def test_a_bad_hour_of_both_revisions_says_nothing() -> None:
    """Together, the counts look worse by far: while the canary had much of the traffic, both rejected more."""
    calm, bad = Interval(Count(10, 200), Count(100, 2_000)), Interval(Count(400, 2_000), Count(40, 200))
    result = judge(calm, bad)
    assert result.worse < 1
    assert at_once(result.canary, result.stable).verdict is Verdict.WORSE


def test_intervals_of_one_order_each_say_what_they_say_together() -> None:
    bad, good = Interval(Count(1, 1), Count(0, 0)), Interval(Count(0, 0), Count(0, 1))
    assert judge(*[bad, good] * 20).worse == pytest.approx(
        judge(*[Interval(Count(10, 10), Count(0, 10))] * 2).worse
    )


def test_a_group_that_is_not_complete_is_counted_but_not_judged() -> None:
    result = judge(Interval(Count(9, 9), Count(0, 10)))
    assert (result.worse, result.canary, result.stable) == (1.0, Count(9, 9), Count(0, 10))
    assert judge(Interval(Count(9, 9), Count(0, 10)), Interval(Count(0, 0), Count(0, 1))).worse > 100


@given(intervals=INTERVALS, more=INTERVALS)
def test_what_comes_later_changes_no_earlier_e_value(intervals: list[Interval], more: list[Interval]) -> None:
    before = list(e_values(intervals))
    assert list(e_values(intervals + more))[: len(before)] == before


def test_a_long_release_has_few_groups() -> None:
    intervals = [Interval(Count(1, 15), Count(7, 135))] * 1_000
    assert len(list(e_values(intervals))) < 250


# Verdicts


def test_a_canary_that_rejects_one_in_ten_wrongly_is_worse() -> None:
    assert at_once(Count(15, 100), Count(9, 900)).verdict is Verdict.WORSE


def test_a_canary_that_accepts_what_stable_rejects_is_different() -> None:
    assert at_once(Count(0, 440), Count(44, 1_400)).verdict is Verdict.DIFFERENT


def test_a_sure_difference_is_never_so_small_that_it_passes() -> None:
    assert at_once(Count(11, 1_409), Count(0, 19_598)).verdict is Verdict.WORSE


def test_without_any_order_the_verdict_is_too_few_and_nobody_knows_how_many_are_needed() -> None:
    for result in (judge(), at_once(Count(0, 0), Count(0, 900)), at_once(Count(0, 900), Count(0, 0))):
        assert (result.verdict, result.needed) == (Verdict.TOO_FEW, None)


@given(intervals=INTERVALS, weight=st.sampled_from([None, 1, 10, 50, 99, 100]))
def test_fine_is_said_only_where_nothing_is_needed(intervals: list[Interval], weight: int | None) -> None:
    terms = AnalysisSettings(margin=0.5)
    (result,) = compare([("rejected", intervals)], terms, weight=weight)
    assert (result.verdict is Verdict.TOO_FEW) == (result.needed != 0)
    if result.verdict is Verdict.FINE:
        assert max(result.worse, result.better) < SIGN


@pytest.mark.parametrize("weight", [5, 25, 50])
@pytest.mark.parametrize("per_cent", [0, 3, 10, 30])
def test_as_many_orders_as_are_needed_are_enough(weight: int, per_cent: int) -> None:
    """At the same rates at both revisions; counted in whole orders, a few more or less."""
    at_stable = Count(per_cent * (100 - weight) // 100, 100 - weight)
    start = Interval(Count(round(at_stable.rate * weight), weight), at_stable)
    (now,) = compare([("rejected", [start])], SETTINGS, weight=weight)
    assert now.needed is not None
    more = round(now.needed * weight / 100), now.needed - round(now.needed * weight / 100)
    rest = Interval(
        Count(round(at_stable.rate * more[0]), more[0]), Count(round(at_stable.rate * more[1]), more[1])
    )
    (then,) = compare([("rejected", [start, rest])], SETTINGS, weight=weight)
    assert then.verdict is Verdict.FINE


def test_a_first_sign_of_a_difference_is_not_fine_and_says_how_many_orders_decide() -> None:
    result = at_once(Count(220, 4_000), Count(1_100, 25_000))
    assert SIGN <= result.worse < 2 / SETTINGS.alpha
    assert result.verdict is Verdict.TOO_FEW
    assert result.needed is not None
    assert result.needed > 0


@pytest.mark.parametrize("weight", [10, 50])
def test_a_canary_that_is_worse_by_the_margin_is_found_by_the_time_that_fine_is_said(weight: int) -> None:
    """Of 200 releases whose canary rejects 10 % more: a twentieth is missed, which the power allows, and chance."""
    rolls = random.Random(weight)  # noqa: S311 - not for secrets
    orders = orders_needed(SequentialTest(SETTINGS, 1), 0.03, weight)
    assert orders is not None
    missed = 0
    for _ in range(200):
        intervals = []
        for _ in range(orders // 40):
            at_canary = drawn(rolls, 40, weight / 100).bad
            intervals.append(Interval(drawn(rolls, at_canary, 0.13), drawn(rolls, 40 - at_canary, 0.03)))
        missed += judge(*intervals).verdict is not Verdict.WORSE
    assert missed <= 18


def test_a_good_release_that_is_watched_at_every_interval_is_seldom_called_worse_or_different() -> None:
    """400 releases with 3 % bad orders, 100 looks each: alpha is 5 %, seeded."""
    rolls, alarms = random.Random(6), 0  # noqa: S311 - not for secrets
    sure = SequentialTest(SETTINGS, 1).threshold
    for _ in range(400):
        intervals = [Interval(drawn(rolls, 10, 0.03), drawn(rolls, 30, 0.03)) for _ in range(100)]
        alarms += any(max(pair) >= sure for pair in e_values(intervals))
    assert alarms / 400 <= 0.05


def test_every_test_and_each_direction_gets_an_equal_part_of_the_risk() -> None:
    assert SequentialTest(SETTINGS, 4).threshold == pytest.approx(log(2 * 4 / 0.05))
    near = [("rejected", [Interval(Count(4, 40), Count(1, 360))])]
    (one,), (many,) = compare(near, SETTINGS), compare(near, SETTINGS, other_tests=20)
    assert one.worse == many.worse
    assert (one.verdict, many.verdict) == (Verdict.WORSE, Verdict.TOO_FEW)


def test_a_higher_share_needs_fewer_orders() -> None:
    counted = [("rejected", [Interval(Count(2, 40), Count(20, 360))])]
    needed = [compare(counted, SETTINGS, weight=weight)[0].needed or 0 for weight in (10, 25, 50)]
    assert needed[0] > needed[1] > needed[2] > 0


def test_a_margin_that_no_release_could_tell_is_refused() -> None:
    with pytest.raises(ValidationError):
        AnalysisSettings(margin=0.001)


@pytest.mark.parametrize(("bad", "total"), [(2, 1), (-1, 3)])
def test_a_count_with_more_bad_than_there_are_is_refused(bad: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{bad} bad of {total}"):
        Count(bad, total)


# Presence


@pytest.mark.parametrize("weight", [1, 10, 50, 99])
def test_the_expectation_of_absence_is_one_at_half_of_the_share_and_less_above(weight: int) -> None:
    total = 60
    for share, most in ((weight / 200, 1 + 1e-9), (weight / 100, 1 + 1e-9)):
        mean = sum(
            comb(total, k)
            * share**k
            * (1 - share) ** (total - k)
            * presence(k, total - k, weight, SETTINGS).worse
            for k in range(total + 1)
        )
        assert mean <= most
    assert presence(0, 0, weight, SETTINGS).worse == 1


def test_a_canary_that_takes_its_share_and_shows_no_activity_is_worse() -> None:
    assert presence(0, 200, 10, SETTINGS).verdict is Verdict.WORSE


@pytest.mark.parametrize("weight", [1, 10, 50, 99])
def test_so_many_effects_as_are_needed_tell_whether_there_is_a_canary(weight: int) -> None:
    start = presence(0, 0, weight, SETTINGS)
    assert start.verdict is Verdict.TOO_FEW
    assert start.needed is not None
    assert presence(0, start.needed - 1, weight, SETTINGS).verdict is Verdict.TOO_FEW
    assert presence(0, start.needed, weight, SETTINGS).verdict is Verdict.WORSE
    at_canary = round(start.needed * weight / 100)
    assert presence(at_canary, start.needed - at_canary, weight, SETTINGS).verdict is Verdict.FINE


def test_a_canary_that_loses_most_of_its_share_is_worse_and_one_that_loses_a_tenth_is_for_the_audit() -> None:
    assert presence(40, 1800, 10, SETTINGS).verdict is Verdict.WORSE
    assert presence(180, 1800, 10, SETTINGS).verdict is Verdict.FINE


@given(stable=st.integers(0, 500), weight=st.integers(1, 99), canary=st.integers(0, 300))
def test_more_activity_of_the_canary_never_makes_it_look_absent(
    stable: int, weight: int, canary: int
) -> None:
    now, more = (presence(n, stable, weight, SETTINGS) for n in (canary, canary + 1))
    assert more.worse <= now.worse * (1 + 1e-9)
    assert (now.verdict is Verdict.TOO_FEW) == (now.needed != 0)


def test_a_further_test_takes_its_part_of_the_risk_from_presence() -> None:
    alone = presence(0, 90, 10, SETTINGS)
    assert alone.verdict is Verdict.WORSE
    assert presence(0, 90, 10, SETTINGS, other_tests=10).verdict is Verdict.TOO_FEW


# All together

FINE = Comparison("parked", Count(0, 500), Count(0, 500), 1.0, 1.0, 0, 386, Verdict.FINE)
FEW = Comparison("rejected", Count(0, 3), Count(0, 10), 1.0, 1.0, 262, 120, Verdict.TOO_FEW)
WORSE = Comparison("rejected", Count(22, 219), Count(31, 709), 500.0, 0.0, 0, 700, Verdict.WORSE)
DIFFERENT = Comparison("rejected", Count(0, 219), Count(22, 709), 0.0, 500.0, 0, 700, Verdict.DIFFERENT)


def test_the_gravest_verdict_counts_and_all_must_be_fine() -> None:
    assert overall([FINE, WORSE, DIFFERENT, FEW]) is Verdict.WORSE
    assert overall([FINE, DIFFERENT, FEW]) is Verdict.DIFFERENT
    assert overall([FINE, FEW]) is Verdict.TOO_FEW
    assert overall([FINE, presence(20, 180, 10, SETTINGS)]) is Verdict.FINE
    assert overall([]) is Verdict.TOO_FEW


def test_one_broken_invariant_is_worse() -> None:
    assert overall([FINE, Invariant("sent twice", 0)]) is Verdict.FINE
    assert overall([FINE, Invariant("sent twice", 1)]) is Verdict.WORSE


def test_a_first_sign_of_harm_comes_before_the_verdict() -> None:
    signed = Comparison("rejected", Count(3, 30), Count(2, 90), SIGN, 0.1, 60, 120, Verdict.TOO_FEW)
    assert harm([FINE, signed])
    assert harm([Invariant("sent twice", 1)])
    assert harm([Presence(0, 60, 10, SIGN, 40, Verdict.TOO_FEW)])
    assert harm([FINE, DIFFERENT])
    assert not harm([FINE, FEW, Invariant("sent twice", 0)])


def test_the_sentence_of_a_worse_release_has_the_figures_and_nothing_else() -> None:
    assert (
        sentence([FINE, WORSE, FEW], NOW, NOW) == "rejected 22 of 219 at the canary against 31 of 709: worse"
    )
    broken: list[Result] = [FINE, Invariant("sent twice", 3), Presence(0, 200, 10, 900.0, 0, Verdict.WORSE)]
    assert (
        sentence(broken, NOW, NOW)
        == "sent twice 3, 0 of 200 effects come from the canary at a weight of 10: worse"
    )


def test_the_sentence_of_a_different_release_asks_for_a_person() -> None:
    assert sentence([FINE, DIFFERENT], NOW, NOW) == (
        "rejected 0 of 219 at the canary against 22 of 709: surely fewer than at stable, so a person has to look"
    )


def test_the_sentence_of_too_few_says_how_many_are_needed_when_they_come_and_what_is_quicker() -> None:
    since = NOW - timedelta(minutes=13)
    assert sentence([FINE, FEW], since, NOW) == (
        "too few: 13 of about 275 orders; at 1 orders a minute the other 262 come by about 14:22 UTC;"
        " a first weight of 50 needs about 120"
    )
    slow = sentence([FEW], NOW - timedelta(hours=13), NOW)
    assert "come by about 2026-12-10 08:00 UTC" in slow
    hopeless = Comparison("rejected", Count(0, 0), Count(0, 1), 1.0, 1.0, 900_000, None, Verdict.TOO_FEW)
    assert sentence([hopeless], NOW - timedelta(days=7), NOW).endswith("come in more than a year")


def test_the_sentence_of_too_few_without_a_rate_says_only_how_many() -> None:
    assert sentence([Presence(0, 0, 10, 1.0, 104, Verdict.TOO_FEW)], None, NOW) == (
        "too few: 0 of about 104 effects"
    )
    assert sentence([], None, NOW) == "too few: nothing was counted"


def test_the_sentence_tells_a_first_sign() -> None:
    signed = Comparison("rejected", Count(9, 90), Count(4, 210), 9.0, 0.1, 60, 700, Verdict.TOO_FEW)
    assert sentence([FEW, signed], None, NOW).startswith(
        "too few: 13 of about 275 orders, and rejected 9 of 90 at the canary against 4 of 210 is a first sign"
    )


def test_the_sentence_of_a_fine_release_names_every_figure() -> None:
    fine: list[Result] = [FINE, Presence(20, 180, 10, 0.1, 0, Verdict.FINE), Invariant("sent twice", 0)]
    assert sentence(fine, NOW, NOW) == (
        "parked 0 of 500 at the canary against 0 of 500, 20 of 200 effects come from the canary at a weight of 10,"
        " sent twice 0: fine"
    )


def test_the_sentence_of_what_cannot_be_known_says_so() -> None:
    unknown = Comparison("rejected", Count(0, 0), Count(0, 60), 1.0, 1.0, None, 386, Verdict.TOO_FEW)
    assert sentence([unknown], None, NOW) == (
        "too few: rejected 0 of 0 at the canary against 0 of 60, and it is not known how many orders are enough"
    )


@given(
    margin=st.floats(0.01, 1),
    alpha=st.floats(1e-9, 0.499),
    power=st.floats(0.5, 0.999999),
    weight=st.sampled_from([None, 1, 10, 50, 70, 99, 100]),
    sizes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=3),
)
def test_every_permitted_setting_gives_a_verdict(
    margin: float, alpha: float, power: float, weight: int | None, sizes: list[tuple[int, int]]
) -> None:
    settings = AnalysisSettings(margin=margin, alpha=alpha, power=power)
    intervals = [Interval(Count(canary // 3, canary), Count(stable // 7, stable)) for canary, stable in sizes]
    (comparison,) = compare([("rejected", intervals)], settings, weight=weight)
    assert comparison.verdict in Verdict
