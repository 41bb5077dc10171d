"""What people are shown of a rollout."""

from typing import Any

import pytest
from support.fake_cluster import NAMESPACE, ROLLOUT
from support.rollout_shop import Shop

from knrollout.cluster.view import RolloutView, read_view, summarize


def shown(shop: Shop) -> RolloutView:
    document = shop.cluster.rollout(NAMESPACE, ROLLOUT)
    assert document is not None
    return read_view(shop.cluster, document)


def needs_attention(shop: Shop) -> bool:
    document = shop.cluster.rollout(NAMESPACE, ROLLOUT)
    assert document is not None
    return summarize(document).needs_attention


def states(shop: Shop) -> list[str]:
    return [step.state for step in shown(shop).steps]


def test_steps_are_told_in_words_and_by_where_the_release_is() -> None:
    shop = Shop()
    shop.release_to_analysis()
    assert [(step.words, step.state) for step in shown(shop).steps] == [
        ("10 % of the traffic", "passed"),
        ("pause for 5m", "passed"),
        ("analysis orders", "current"),
        ("50 % of the traffic", "to come"),
        ("pause until promoted", "to come"),
    ]


def test_of_an_aborted_release_what_it_did_not_reach_is_not_to_come() -> None:
    shop = Shop()
    shop.release_to_analysis()
    shop.end_current_run("Failed")
    assert states(shop) == ["passed", "passed", "skipped", "skipped", "skipped"]


def test_of_a_release_that_was_promoted_in_full_nothing_counts_as_passed() -> None:
    shop = Shop()
    shop.release()
    shop.promote_in_full()
    assert set(states(shop)) == {"skipped"}


def test_of_a_release_that_passed_its_steps_all_are_passed() -> None:
    shop = Shop()
    shop.release_and_promote()
    assert set(states(shop)) == {"passed"}


def test_revisions_are_shown_with_their_part_and_share_and_only_where_they_have_one() -> None:
    shop = Shop()
    first = shop.stable
    second = shop.release_and_promote()
    shop.wait(60)
    third = shop.release()
    assert [(r.name, r.part, r.percent, r.tags) for r in shown(shop).revisions] == [
        (third, "canary", 10, ("canary",)),
        (second, "stable", 90, ()),
    ]
    assert first not in {r.name for r in shown(shop).revisions}


def test_a_run_is_shown_with_what_it_measured_last_and_whether_it_is_waited_for() -> None:
    shop = Shop()
    shop.release_to_analysis()
    (name,) = shop.cluster.unfinished_runs()
    run: Any = shop.cluster.objects["run", name]
    measured = [{"phase": "Inconclusive", "value": "too_few"}, {"phase": "Successful", "value": "fine"}]
    result = {"name": "rejected", "phase": "Running", "count": 2, "successful": 1, "measurements": measured}
    run["status"] = {"phase": "Running", "metricResults": [result]}
    (of_run,) = shown(shop).revisions[0].runs
    (metric,) = of_run.run.metrics
    assert (of_run.phase, of_run.now) == ("Running", True)
    assert (metric.successful, metric.measured, metric.last) == (1, 2, "fine")
    shop.end_current_run("Failed")
    assert [each.now for each in shown(shop).revisions[0].runs] == [False]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("at rest", set()),
        ("paused", {"promote", "promote-full", "pause", "abort"}),
        ("aborted", {"retry"}),
    ],
)
def test_only_what_would_change_something_is_offered(where: str, expected: set[str]) -> None:
    shop = Shop()
    if where != "at rest":
        shop.release()
    if where == "aborted":
        shop.abort()
    assert set(shown(shop).commands) == expected


def test_a_pause_that_ends_by_itself_needs_no_hand_and_one_without_a_duration_does() -> None:
    shop = Shop()
    shop.release()
    assert not needs_attention(shop)
    shop.wait(300)
    shop.end_current_run("Successful")
    assert needs_attention(shop)


def test_an_analysis_that_said_nothing_and_an_aborted_release_need_a_hand() -> None:
    shop = Shop()
    assert not needs_attention(shop)
    shop.release_to_analysis()
    shop.end_current_run("Inconclusive")
    assert needs_attention(shop)
    shop.abort()
    assert needs_attention(shop)


def test_a_spec_that_cannot_be_read_has_no_steps_and_says_why() -> None:
    shop = Shop()
    shop.change(replicas=3)
    assert shown(shop).steps == ()
    assert "replicas" in shown(shop).status.message
