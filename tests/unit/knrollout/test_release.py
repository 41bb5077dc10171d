"""The rules of a release: each test runs one through the controller, against a cluster in memory."""

from typing import Any

import pytest
from support.rollout_shop import STEPS, Shop

from knrollout.api import names

ANALYSIS = {"templates": [{"templateName": "orders"}], "args": [{"name": "revision", "value": "x"}]}
ORDER_ARGS = [{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}]


def phase(shop: Shop) -> tuple[str, str]:
    status = shop.cluster.status()
    return status["phase"], status["reason"]


def test_the_revision_that_serves_when_the_rollout_is_created_is_pinned_by_name() -> None:
    shop = Shop()
    assert shop.cluster.shares() == {shop.stable: 100}
    assert phase(shop) == ("Healthy", "Healthy")


def test_a_new_revision_gets_the_first_weight_and_a_tag_and_both_are_named() -> None:
    shop = Shop()
    canary = shop.release()
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}
    assert shop.cluster.tags() == {"canary": canary}
    assert phase(shop) == ("Paused", "CanaryPauseStep")


def test_a_pause_with_a_duration_ends_by_itself_and_an_analysis_begins() -> None:
    shop = Shop()
    shop.release()
    shop.wait(299)
    assert shop.cluster.unfinished_runs() == []
    shop.wait(1)
    assert len(shop.cluster.unfinished_runs()) == 1
    assert phase(shop) == ("Progressing", "Analysing")


def test_a_good_release_goes_from_nothing_to_everything_and_the_old_one_keeps_an_address_for_a_while() -> (
    None
):
    shop = Shop()
    canary = shop.release_and_promote()
    assert shop.cluster.shares() == {canary: 100}
    assert shop.cluster.tags() == {"previous": shop.stable}
    assert phase(shop) == ("Healthy", "Healthy")
    shop.wait(30)
    assert shop.cluster.tags() == {}
    assert shop.cluster.status()["stableRevision"] == canary


def test_a_pause_without_a_duration_waits_until_somebody_promotes() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.end_current_run("Successful")
    shop.wait(86400)
    assert shop.cluster.shares() == {shop.stable: 50, canary: 50}
    assert shop.promote()["phase"] == "Healthy"
    assert shop.cluster.shares() == {canary: 100}


def test_a_failed_analysis_sends_all_traffic_back_at_once_and_it_stays_so() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.end_current_run("Failed")
    assert shop.cluster.shares() == {shop.stable: 100}
    assert phase(shop) == ("Degraded", "AnalysisRunFailed")
    assert shop.cluster.tags() == {"canary": canary}
    shop.wait(86400)
    assert shop.cluster.shares() == {shop.stable: 100}
    assert shop.cluster.tags() == {}


@pytest.mark.parametrize(
    ("phase_of_run", "reason"),
    [("Error", "AnalysisRunError"), ("Inconclusive", "InconclusiveAnalysisRun")],
)
def test_a_run_without_a_result_pauses_and_time_does_not_promote(phase_of_run: str, reason: str) -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.end_current_run(phase_of_run)
    shop.wait(86400)
    assert phase(shop) == ("Paused", reason)
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}


def test_a_run_that_ended_without_a_measurement_pauses_although_argo_calls_it_successful() -> None:
    shop = Shop()
    shop.release_to_analysis()
    shop.end_current_run("Successful", measured=0)
    assert phase(shop) == ("Paused", "NothingMeasured")


def test_a_run_that_was_terminated_never_promotes_even_if_it_had_measured() -> None:
    shop = Shop()
    shop.release_to_analysis()
    (run,) = shop.cluster.unfinished_runs()
    shop.cluster.stop_run("shop", run)
    shop.end_current_run("Successful")
    assert phase(shop) == ("Paused", "NothingMeasured")


def test_a_run_that_does_not_start_pauses_the_release_after_the_deadline_until_it_does() -> None:
    shop = Shop()
    shop.release_to_analysis()
    shop.wait(601)
    assert phase(shop) == ("Paused", "NothingMeasured")
    shop.end_current_run("Successful")
    assert shop.cluster.status()["currentStepIndex"] == 4


def test_a_newer_revision_begins_at_the_first_step_from_the_same_stable_one() -> None:
    shop = Shop()
    first = shop.release_to_analysis()
    second = shop.release()
    assert shop.cluster.shares() == {shop.stable: 90, second: 10}
    assert shop.cluster.tags() == {"canary": second}
    assert shop.cluster.status()["history"][-1]["outcome"] == "Superseded"
    assert all(run["spec"]["terminate"] for run in shop.cluster.runs("shop", "track"))
    assert first not in shop.cluster.shares()


def test_a_revision_that_never_becomes_ready_gets_no_traffic_and_is_aborted_after_the_deadline() -> None:
    shop = Shop()
    shop.release(ready=False)
    assert phase(shop) == ("Progressing", "RevisionNotReady")
    assert shop.cluster.tags() == {}
    shop.wait(599)
    assert phase(shop) == ("Progressing", "RevisionNotReady")
    shop.wait(1)
    assert phase(shop) == ("Degraded", "ProgressDeadlineExceeded")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_with_progress_deadline_abort_off_a_late_revision_is_only_reported() -> None:
    shop = Shop()
    shop.change(progressDeadlineAbort=False)
    canary = shop.release(ready=False)
    shop.wait(601)
    assert phase(shop) == ("Degraded", "ProgressDeadlineExceeded")
    shop.cluster.make_ready(canary)
    assert shop.run_to_rest()["phase"] == "Paused"
    assert shop.cluster.shares()[canary] == 10


def test_a_canary_that_is_no_longer_ready_loses_its_tag_too_since_it_would_block_the_route() -> None:
    shop = Shop()
    canary = shop.release()
    shop.cluster.make_ready(canary, ready=False)
    shop.run_to_rest()
    shop.wait(600)
    assert shop.cluster.tags() == {}
    assert shop.cluster.shares() == {shop.stable: 100}


def test_a_deleted_canary_is_aborted_at_once() -> None:
    shop = Shop()
    canary = shop.release()
    shop.cluster.remove("revision", canary)
    shop.run_to_rest()
    assert phase(shop) == ("Degraded", "RevisionDeleted")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_if_the_stable_revision_is_deleted_nothing_is_changed_until_a_person_promotes_in_full() -> None:
    shop = Shop()
    canary = shop.release()
    shop.cluster.remove("revision", shop.stable)
    writes = len(shop.cluster.traffic_writes)
    shop.wait(86400)
    assert phase(shop) == ("Degraded", "StableMissing")
    assert len(shop.cluster.traffic_writes) == writes
    shop.promote_in_full()
    assert shop.cluster.shares() == {canary: 100}


@pytest.mark.parametrize(
    "edited",
    [
        [{"revisionName": "track-00002", "percent": 100}],
        [{"latestRevision": True, "percent": 100}],
    ],
)
def test_a_manual_edit_pauses_the_release_and_is_left_alone(edited: list[dict[str, Any]]) -> None:
    shop = Shop()
    shop.release()
    shop.cluster.edit_traffic(edited)
    shop.cluster.settle()
    writes = len(shop.cluster.traffic_writes)
    shop.wait(86400)
    assert phase(shop) == ("Paused", "TrafficEdited")
    assert len(shop.cluster.traffic_writes) == writes


def test_a_manual_edit_that_is_reverted_lets_the_release_go_on() -> None:
    shop = Shop()
    shop.release()
    split = shop.cluster.objects["service", "track"]["spec"]["traffic"]
    shop.cluster.edit_traffic([{"revisionName": shop.stable, "percent": 100}])
    shop.run_to_rest()
    shop.cluster.edit_traffic(split)
    shop.cluster.settle()
    assert shop.run_to_rest()["reason"] == "CanaryPauseStep"


def test_a_manual_edit_is_overwritten_on_request_and_only_that_one() -> None:
    shop = Shop()
    canary = shop.release()
    edit = [{"revisionName": shop.stable, "percent": 100}]
    shop.cluster.edit_traffic(edit)
    serial = shop.run_to_rest()["serial"]
    shop.annotate(**{"orderflow.dev/take-over": str(serial)})
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}
    shop.cluster.edit_traffic(edit)
    assert shop.run_to_rest()["reason"] == "TrafficEdited"


def test_an_analysis_that_fails_under_a_manual_edit_takes_the_canarys_share_away() -> None:
    shop = Shop(analysis={"templates": [{"templateName": "orders"}], "args": ORDER_ARGS})
    canary = shop.release()
    shop.cluster.edit_traffic([{"revisionName": canary, "percent": 100}])
    shop.run_to_rest()
    shop.end_current_run("Failed")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_an_analysis_that_fails_leaves_a_manual_edit_that_gives_the_canary_nothing() -> None:
    shop = Shop(analysis={"templates": [{"templateName": "orders"}], "args": ORDER_ARGS})
    older = shop.stable
    shop.release()
    shop.cluster.edit_traffic([{"revisionName": older, "percent": 100, "tag": "by-hand"}])
    shop.run_to_rest()
    writes = len(shop.cluster.traffic_writes)
    shop.end_current_run("Failed")
    assert len(shop.cluster.traffic_writes) == writes
    assert shop.cluster.status()["aborted"]["reason"] == "AnalysisRunFailed"


def test_foreign_tags_are_preserved_through_a_whole_release() -> None:
    shop = Shop()
    traffic = shop.cluster.objects["service", "track"]["spec"]["traffic"]
    shop.cluster.edit_traffic([*traffic, {"revisionName": shop.stable, "tag": "demo"}])
    shop.cluster.settle()
    shop.release_and_promote()
    assert shop.cluster.tags()["demo"] == shop.stable
    assert len(STEPS) == shop.cluster.status()["currentStepIndex"]


def test_a_background_analysis_that_fails_aborts_during_a_pause() -> None:
    shop = Shop(analysis={"templates": [{"templateName": "orders"}], "args": ORDER_ARGS})
    shop.release()
    shop.end_current_run("Failed")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_a_background_analysis_starts_at_its_step() -> None:
    background = {"templates": [{"templateName": "orders"}], "args": ORDER_ARGS, "startingStep": 1}
    shop = Shop(analysis=background, steps=[{"pause": {}}, {"setWeight": 5}, {"pause": {}}])
    shop.release()
    assert shop.cluster.unfinished_runs() == []
    shop.promote()
    assert len(shop.cluster.unfinished_runs()) == 1


def test_no_promotion_while_the_background_analysis_has_measured_nothing() -> None:
    background = {"templates": [{"templateName": "orders"}], "args": ORDER_ARGS}
    shop = Shop(analysis=background, steps=[{"setWeight": 50}])
    canary = shop.release()
    assert phase(shop) == ("Progressing", "Analysing")
    shop.wait(601)
    assert phase(shop) == ("Paused", "NothingMeasured")
    (run,) = shop.cluster.unfinished_runs()
    shop.cluster.end_run(run, "Running")
    assert shop.run_to_rest()["phase"] == "Healthy"
    assert shop.cluster.shares() == {canary: 100}


def test_a_rerun_measures_again_and_the_release_goes_on_by_its_result() -> None:
    shop = Shop()
    shop.release_to_analysis()
    status = shop.end_current_run("Error")
    shop.annotate(**{"orderflow.dev/rerun": status["stepRun"]["name"]})
    assert shop.cluster.status()["phase"] == "Progressing"
    shop.end_current_run("Successful")
    assert shop.cluster.status()["currentStepIndex"] == 4


def test_promoting_past_an_inconclusive_analysis_passes_that_step_only() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.end_current_run("Inconclusive")
    status = shop.promote()
    assert (status["reason"], status["currentStepIndex"]) == ("CanaryPauseStep", 4)
    assert shop.cluster.shares() == {shop.stable: 50, canary: 50}


def test_an_old_promotion_request_passes_no_later_step() -> None:
    shop = Shop(steps=[{"pause": {}}, {"pause": {}}])
    shop.release()
    shop.promote()
    assert shop.cluster.status()["currentStepIndex"] == 1
    second = shop.release()
    assert shop.cluster.status()["currentStepIndex"] == 0
    assert shop.cluster.shares() == {shop.stable: 100}
    assert shop.cluster.tags() == {"canary": second}


def test_promoting_in_full_skips_the_remaining_steps() -> None:
    shop = Shop()
    canary = shop.release()
    assert shop.promote_in_full()["phase"] == "Healthy"
    assert shop.cluster.shares() == {canary: 100}


def test_a_pause_by_hand_holds_the_step_but_not_an_abort() -> None:
    shop = Shop()
    shop.change(paused=True)
    canary = shop.release_to_analysis()
    assert phase(shop) == ("Paused", "UserPaused")
    assert shop.abort()["reason"] == "UserAborted"
    assert canary not in shop.cluster.shares()


def test_an_aborted_revision_is_tried_again_only_on_request() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.end_current_run("Failed")
    status = shop.retry(canary)
    assert (status["attempt"], status["currentStepIndex"]) == (2, 1)
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}
    assert shop.abort()["phase"] == "Degraded"


def test_an_undo_during_a_release_goes_back_and_stays_even_if_its_request_is_lost() -> None:
    shop = Shop()
    shop.release_to_analysis()
    assert shop.undo(shop.stable)["phase"] == "Healthy"
    shop.cluster.patch_rollout("shop", "track", {"orderflow.dev/undo": None}, None)
    assert shop.run_to_rest()["phase"] == "Healthy"
    assert shop.cluster.shares() == {shop.stable: 100}


def test_an_undo_without_a_rollback_window_takes_the_steps() -> None:
    shop = Shop()
    canary = shop.release_and_promote()
    shop.undo(shop.stable)
    assert shop.cluster.shares() == {canary: 90, shop.stable: 10}


def test_an_undo_within_the_rollback_window_is_done_at_once_and_lasts_until_a_newer_revision() -> None:
    shop = Shop()
    shop.change(rollbackWindow={"revisions": 1})
    shop.release_and_promote()
    assert shop.undo(shop.stable)["phase"] == "Healthy"
    assert shop.cluster.shares() == {shop.stable: 100}
    newer = shop.release()
    assert shop.cluster.shares() == {shop.stable: 90, newer: 10}


def test_the_rollback_window_never_leads_to_an_aborted_revision() -> None:
    shop = Shop()
    shop.change(rollbackWindow={"revisions": 5})
    bad = shop.release_to_analysis()
    shop.end_current_run("Failed")
    good = shop.release_and_promote()
    shop.undo(bad)
    assert shop.cluster.shares() == {good: 90, bad: 10}


def test_the_status_says_since_when_the_canary_has_a_share_and_its_present_weight() -> None:
    shop = Shop()
    shop.release_to_analysis()
    first = shop.cluster.status()
    shop.end_current_run("Successful")
    second = shop.cluster.status()
    assert (first["weight"], second["weight"]) == (10, 50)
    assert second["canaryStartedAt"] == first["canaryStartedAt"]
    assert second["weightChangedAt"] > first["weightChangedAt"]


def test_a_retry_counts_from_its_own_first_share() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    before = shop.cluster.status()["canaryStartedAt"]
    shop.end_current_run("Failed")
    shop.wait(600)
    assert shop.retry(canary)["canaryStartedAt"] > before


def test_an_analysis_gets_moments_and_the_weight_of_the_status_as_arguments() -> None:
    fields = {"since": "canaryStartedAt", "weight": "weight", "weight-since": "weightChangedAt"}
    args = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"status.{field}"}}}
        for name, field in fields.items()
    ]
    analysis = {
        "templates": [{"templateName": "orders"}],
        "args": [*args, {"name": "revision", "value": "x"}],
    }
    shop = Shop(steps=[{"setWeight": 20}, {"pause": {"duration": 60}}, {"analysis": analysis}])
    template = shop.cluster.objects["template", "orders"]["spec"]
    template["args"] = [{"name": name} for name in ("revision", *fields)]
    try:
        shop.release()
        shop.wait(60)
        (run,) = shop.cluster.unfinished_runs()
    finally:
        template["args"] = [{"name": "revision"}]
    given = {arg["name"]: arg["value"] for arg in shop.cluster.objects["run", run]["spec"]["args"]}
    status = shop.cluster.status()
    assert given == {"revision": "x"} | {name: str(status[field]) for name, field in fields.items()}


HARM = '{"verdict": "different", "harm": true, "sentence": "rejected 0 of 90 against 9 of 80"}'


@pytest.mark.parametrize(("value", "failed"), [(HARM, 0), ("0.5", 1)])
def test_an_inconclusive_analysis_with_a_sign_of_harm_takes_the_share_away_until_a_person_decides(
    value: str, failed: int
) -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    status = shop.end_current_run("Inconclusive", value=value, failed=failed)
    assert phase(shop) == ("Paused", "InconclusiveAnalysisRun")
    assert "share is 0" in status["message"]
    assert shop.cluster.shares() == {shop.stable: 100}
    shop.wait(86400)
    assert shop.cluster.shares() == {shop.stable: 100}
    shop.promote()
    assert shop.cluster.shares() == {shop.stable: 50, canary: 50}


def test_a_rerun_after_a_sign_of_harm_gives_the_share_back_and_measures_again() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    before = shop.cluster.status()["weightChangedAt"]
    shop.end_current_run("Inconclusive", value=HARM)
    shop.wait(60)
    run = shop.cluster.status()["stepRun"]["name"]
    status = shop.annotate(**{names.RERUN_ANNOTATION: run})
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}
    assert status["weightChangedAt"] > before
    assert len(shop.cluster.unfinished_runs()) == 1


def test_an_inconclusive_background_analysis_takes_the_share_away_as_well() -> None:
    shop = Shop(analysis={**ANALYSIS, "startingStep": 1})
    shop.release()
    status = shop.end_current_run("Inconclusive", value=HARM)
    assert shop.cluster.shares() == {shop.stable: 100}
    assert "rejected 0 of 90 against 9 of 80" in status["message"]


def test_too_little_data_without_a_sign_of_harm_keeps_the_share() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    status = shop.end_current_run(
        "Inconclusive", value='{"harm": false, "sentence": "13 of about 275 orders"}'
    )
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}
    assert "13 of about 275 orders" in status["message"]
    assert "retry" in status["message"]


def test_inconclusive_can_mean_abort() -> None:
    shop = Shop(onInconclusive="abort")
    shop.release_to_analysis()
    shop.end_current_run("Inconclusive")
    assert phase(shop) == ("Degraded", "InconclusiveAnalysisRun")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_a_failed_analysis_says_what_was_measured() -> None:
    shop = Shop()
    shop.release_to_analysis()
    shop.end_current_run("Failed", value='{"sentence": "rejected 22 of 219 against 3 of 700: worse"}')
    assert "rejected 22 of 219 against 3 of 700: worse" in shop.cluster.status()["message"]


@pytest.mark.parametrize("reason", ["OOMKilled", "Error", "Completed"])
def test_a_container_of_the_canary_that_ends_takes_the_release_back(reason: str) -> None:
    shop = Shop()
    canary = shop.release()
    shop.wait(10)
    shop.cluster.end_container(canary, reason)
    status = shop.run_to_rest()
    assert phase(shop) == ("Degraded", "ContainersEnded")
    assert reason in status["message"]
    assert shop.cluster.shares() == {shop.stable: 100}


def test_containers_that_ended_before_the_attempt_or_beside_those_of_stable_or_a_sidecar_are_no_sign() -> (
    None
):
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.cluster.end_container(canary, "Error")
    shop.end_current_run("Failed")
    shop.wait(60)
    shop.retry(canary)
    assert shop.cluster.shares()[canary] == 10
    shop.wait(10)
    shop.cluster.end_container(shop.stable, "Error")
    shop.cluster.end_container(canary, "Error")
    shop.run_to_rest()
    assert shop.cluster.shares()[canary] == 10
    other = Shop()
    canary = other.release()
    other.wait(10)
    other.cluster.end_container(canary, "OOMKilled", container="queue-proxy")
    other.run_to_rest()
    assert other.cluster.shares()[canary] == 10


def test_a_canary_with_a_share_that_is_no_longer_ready_goes_back_at_once() -> None:
    shop = Shop()
    canary = shop.release()
    shop.cluster.make_ready(canary, ready=False)
    shop.run_to_rest()
    assert phase(shop) == ("Degraded", "RevisionNotReady")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_a_last_step_at_full_weight_keeps_the_way_back() -> None:
    shop = Shop(steps=[{"setWeight": 100}, {"pause": {"duration": "5m"}}], analysis=ANALYSIS)
    canary = shop.release()
    assert shop.cluster.shares() == {canary: 100}
    assert shop.cluster.status()["stableRevision"] == shop.stable
    shop.end_current_run("Failed")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_changed_steps_restart_the_release() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.change(strategy={"canary": {"steps": [{"setWeight": 1}, {"pause": {}}]}})
    assert shop.cluster.shares() == {shop.stable: 99, canary: 1}
    assert shop.cluster.status()["attempt"] == 2


def test_a_missing_template_pauses_the_release_before_any_traffic() -> None:
    shop = Shop()
    shop.cluster.remove("template", "orders")
    canary = shop.release()
    assert phase(shop) == ("Paused", "AnalysisNotPossible")
    assert canary not in shop.cluster.shares()


def test_a_lost_status_is_derived_from_the_traffic_and_the_release_restarts() -> None:
    shop = Shop()
    canary = shop.release_to_analysis()
    shop.end_current_run("Inconclusive")
    del shop.rollout["status"]
    status = shop.run_to_rest()
    assert (status["stableRevision"], status["attempt"], status["currentStepIndex"]) == (shop.stable, 2, 1)
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}


def test_foreign_tags_with_the_rollouts_names_are_not_taken_over() -> None:
    shop = Shop()
    del shop.rollout["status"]
    del shop.cluster.objects["service", "track"]["metadata"]["annotations"]
    shop.cluster.edit_traffic(
        [{"revisionName": shop.stable, "percent": 100}, {"revisionName": shop.stable, "tag": "canary"}]
    )
    shop.run_to_rest()
    assert phase(shop) == ("Degraded", "TagTaken")


def test_of_two_rollouts_of_one_service_the_older_one_owns_it() -> None:
    shop = Shop()
    shop.cluster.advance_clock(1)
    shop.cluster.add("rollout", {"metadata": {"name": "again"}, "spec": shop.rollout["spec"]})
    assert shop.run_to_rest()["phase"] == "Healthy"


def test_an_invalid_spec_that_admission_let_through_is_reported_in_the_status() -> None:
    shop = Shop()
    shop.change(strategy={"canary": {"steps": [{"setWeight": 1, "setHeaderRoute": {}}]}})
    assert phase(shop) == ("Degraded", "InvalidSpec")
    assert "spec.strategy.canary.steps.0.setHeaderRoute: is not supported" in shop.cluster.status()["message"]


def test_finished_runs_of_earlier_attempts_are_deleted_beyond_the_limit() -> None:
    shop = Shop()
    shop.change(analysis={"unsuccessfulRunHistoryLimit": 1, "successfulRunHistoryLimit": 0})
    for _ in range(3):
        shop.release_to_analysis()
        shop.end_current_run("Failed")
    assert len(shop.cluster.runs("shop", "track")) == 2
