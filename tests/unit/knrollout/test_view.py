"""A rollout as people see it."""

from typing import Any

import pytest
from support.fake_cluster import NAMESPACE, ROLLOUT
from support.rollout_shop import Shop

from knrollout.cluster.view import RolloutView, read_view, summarize


def view(shop: Shop) -> RolloutView:
    document = shop.cluster.rollout(NAMESPACE, ROLLOUT)
    assert document is not None
    return read_view(shop.cluster, document)


def needs_attention(shop: Shop) -> bool:
    document = shop.cluster.rollout(NAMESPACE, ROLLOUT)
    assert document is not None
    return summarize(document).needs_attention


def states(shop: Shop) -> list[str]:
    return [step.state for step in view(shop).steps]


def test_steps_are_phrases_with_their_state() -> None:
    shop = Shop()
    shop.release_to_analysis()
    assert [(step.words, step.state) for step in view(shop).steps] == [
        ("10 % of the traffic", "passed"),
        ("pause for 5m", "passed"),
        ("analysis orders", "current"),
        ("50 % of the traffic", "to come"),
        ("pause until promoted", "to come"),
    ]


def test_steps_that_an_aborted_release_did_not_reach_are_skipped() -> None:
    shop = Shop()
    shop.release_to_analysis()
    shop.end_current_run("Failed")
    assert states(shop) == ["passed", "passed", "skipped", "skipped", "skipped"]


def test_no_step_of_a_release_that_was_promoted_in_full_counts_as_passed() -> None:
    shop = Shop()
    shop.release()
    shop.promote_in_full()
    assert set(states(shop)) == {"skipped"}


def test_all_steps_of_a_promoted_release_are_passed() -> None:
    shop = Shop()
    shop.release_and_promote()
    assert set(states(shop)) == {"passed"}


def test_only_revisions_with_a_part_or_a_share_are_shown() -> None:
    shop = Shop()
    first = shop.stable
    second = shop.release_and_promote()
    shop.wait(60)
    third = shop.release()
    assert [(r.name, r.part, r.percent, r.tags) for r in view(shop).revisions] == [
        (third, "canary", 10, ("canary",)),
        (second, "stable", 90, ()),
    ]
    assert first not in {r.name for r in view(shop).revisions}


def test_a_run_is_shown_with_its_last_measurement_and_whether_it_is_current() -> None:
    shop = Shop()
    shop.release_to_analysis()
    (name,) = shop.cluster.unfinished_runs()
    run: Any = shop.cluster.objects["run", name]
    measurements = [{"phase": "Inconclusive", "value": "too_few"}, {"phase": "Successful", "value": "fine"}]
    result = {
        "name": "rejected",
        "phase": "Running",
        "count": 2,
        "successful": 1,
        "measurements": measurements,
    }
    run["status"] = {"phase": "Running", "metricResults": [result]}
    (run_view,) = view(shop).revisions[0].runs
    (metric,) = run_view.run.metrics
    assert (run_view.phase, run_view.now) == ("Running", True)
    assert (metric.successful, metric.measured, metric.last) == (1, 2, "fine")
    shop.end_current_run("Failed")
    assert [each.now for each in view(shop).revisions[0].runs] == [False]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("at rest", set()),
        ("paused", {"promote", "promote-full", "pause", "abort"}),
        ("aborted", {"retry"}),
    ],
)
def test_only_commands_that_would_change_something_are_available(where: str, expected: set[str]) -> None:
    shop = Shop()
    if where != "at rest":
        shop.release()
    if where == "aborted":
        shop.abort()
    assert set(view(shop).commands) == expected


def test_only_a_pause_without_a_duration_needs_attention() -> None:
    shop = Shop()
    shop.release()
    assert not needs_attention(shop)
    shop.wait(300)
    shop.end_current_run("Successful")
    assert needs_attention(shop)


def test_an_analysis_without_a_result_and_an_aborted_release_need_attention() -> None:
    shop = Shop()
    assert not needs_attention(shop)
    shop.release_to_analysis()
    shop.end_current_run("Inconclusive")
    assert needs_attention(shop)
    shop.abort()
    assert needs_attention(shop)


def test_a_rollout_with_an_invalid_spec_has_no_steps_and_says_why() -> None:
    shop = Shop()
    shop.change(replicas=3)
    assert view(shop).steps == ()
    assert "replicas" in view(shop).status.message


def test_runs_are_shown_under_the_revision_that_they_analyse() -> None:
    """An undo to the stable revision ends the attempt of an aborted canary and keeps its number."""
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.end_current_run("Failed")
    shop.undo(shop.stable)
    runs = {revision.name: len(revision.runs) for revision in view(shop).revisions}
    assert runs == {canary: 1, shop.stable: 0}


def test_a_share_that_is_withheld_is_shown_with_the_sentence_of_the_run() -> None:
    shop = Shop()
    shop.release_to_analysis()
    value = '{"verdict": "too_few", "harm": true, "sentence": "3 of 40 orders rejected"}'
    shop.end_current_run("Inconclusive", value=value)
    shown = view(shop)
    assert (shown.withheld, shown.status.share, shown.status.weight) == (True, 0, 10)
    assert "first sign of harm" in shown.status.message
    assert shown.revisions[0].runs[0].sentence == "rejected: 3 of 40 orders rejected"
    assert shown.canary_started_at == shown.status.canary_started_at is not None
    assert shown.weight_changed_at is not None


def test_a_pause_at_rest_needs_attention_and_only_promote_is_offered() -> None:
    shop = Shop()
    shop.change(paused=True)
    assert needs_attention(shop)
    assert set(view(shop).commands) == {"promote"}
    assert "paused by hand" in view(shop).status.message
