"""Writes that are late, missing or repeated; and a Route that follows late."""

import pytest
from support.rollout_shop import ORDERS, Shop

from knrollout.api import names
from knrollout.cluster.errors import ConflictError


def test_a_late_write_of_a_share_is_refused_once_another_controller_aborted() -> None:
    shop = Shop(steps=[{"pause": {}}, {"setWeight": 10}, {"pause": {}}])
    canary = shop.release()
    status = shop.cluster.status()
    shop.cluster.patch_rollout(
        "shop", "track", {names.PROMOTE_ANNOTATION: f"{canary}/{status['attempt']}/0"}, None
    )
    write_status, write_split, *_ = shop.planned_writes()
    write_status()
    shop.cluster.patch_rollout(
        "shop", "track", {names.ABORT_ANNOTATION: f"{canary}/{status['attempt']}"}, None
    )
    write_abort, *_ = shop.planned_writes()
    write_abort()
    shop.run_to_rest()
    with pytest.raises(ConflictError):
        write_split()
    assert shop.run_to_rest()["reason"] == "UserAborted"
    assert shop.cluster.shares() == {shop.stable: 100}


def test_a_share_that_is_written_just_before_another_controllers_abort_is_not_taken_for_a_manual_edit() -> (
    None
):
    shop = Shop(steps=[{"pause": {}}, {"setWeight": 10}, {"pause": {}}])
    canary = shop.release()
    token = f"{canary}/{shop.cluster.status()['attempt']}"
    shop.cluster.patch_rollout("shop", "track", {names.PROMOTE_ANNOTATION: f"{token}/0"}, None)
    write_status, write_split, *_ = shop.planned_writes()
    write_status()
    shop.cluster.patch_rollout("shop", "track", {names.ABORT_ANNOTATION: token}, None)
    write_abort, write_split_of_abort, *_ = shop.planned_writes()
    write_abort()
    write_split()
    with pytest.raises(ConflictError):
        write_split_of_abort()
    assert shop.run_to_rest()["reason"] == "UserAborted"
    assert shop.cluster.shares() == {shop.stable: 100}


@pytest.mark.parametrize("ready", [True, False])
def test_a_revision_created_while_the_service_is_being_adopted_is_released(
    ready: bool,
) -> None:
    shop = Shop()
    del shop.rollout["status"]
    shop.cluster.edit_traffic([{"latestRevision": True, "percent": 100}])
    shop.cluster.settle()
    write_status, *_ = shop.planned_writes()
    write_status()
    canary = shop.cluster.deploy(ready=ready)
    shop.run_to_rest()
    assert shop.cluster.shares().get(canary, 0) == (10 if ready else 0)
    shop.cluster.make_ready(canary)
    shop.run_to_rest()
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}


def test_a_release_waits_until_the_route_has_followed() -> None:
    shop = Shop(steps=[{"setWeight": 10}, {"setWeight": 50}, {"pause": {}}])
    shop.knative_works = False
    canary = shop.release()
    assert shop.cluster.status()["reason"] == "RouteNotReady"
    assert canary not in shop.cluster.shares()
    for share in (10, 50):
        shop.cluster.settle()
        shop.run_to_rest()
        assert shop.cluster.shares()[canary] == share


def test_a_route_that_never_follows_ends_in_an_abort() -> None:
    shop = Shop()
    shop.knative_works = False
    shop.release()
    shop.wait(601)
    assert shop.cluster.status()["aborted"]["reason"] == "ProgressDeadlineExceeded"
    assert shop.cluster.shares() == {shop.stable: 100}


def test_that_nobody_led_for_an_hour_is_no_fault_of_the_canary() -> None:
    shop = Shop(steps=[{"setWeight": 10}, {"pause": {}}])
    canary = shop.cluster.deploy()
    for _ in range(20):
        write_status, *_ = shop.planned_writes()
        write_status()
        if (shop.cluster.status().get("pending") or [{}])[-1].get("canary") == canary:
            break
        shop.reconcile_once()
    assert shop.cluster.tags() == {}, "the controller ended before it tagged the canary"
    shop.wait(3600)
    assert shop.cluster.shares() == {shop.stable: 90, canary: 10}


def test_a_revision_is_stable_only_when_the_route_sends_it_everything() -> None:
    shop = Shop(steps=[{"setWeight": 10}, {"pause": {}}])
    canary = shop.release()
    shop.knative_works = False
    shop.promote()
    assert shop.cluster.shares() == {canary: 100}
    assert shop.cluster.status()["stableRevision"] == shop.stable
    shop.cluster.settle()
    assert shop.run_to_rest()["stableRevision"] == canary


def test_an_abort_of_a_canary_that_is_not_ready_is_one_write_and_names_it_nowhere() -> None:
    shop = Shop()
    canary = shop.release()
    shop.cluster.make_ready(canary, ready=False)
    before = len(shop.cluster.traffic_writes)
    shop.abort()
    (write,) = shop.cluster.traffic_writes[before:]
    assert canary not in {target.revision for target in write.targets}


def test_an_aborted_canary_that_is_no_longer_ready_loses_its_tag() -> None:
    shop = Shop(abortScaleDownDelaySeconds=0)
    canary = shop.release()
    shop.abort()
    shop.wait(86400)
    assert shop.cluster.tags() == {"canary": canary}
    shop.cluster.make_ready(canary, ready=False)
    shop.run_to_rest()
    assert shop.cluster.tags() == {}


def test_of_two_analyses_in_a_row_each_has_a_run_of_its_own() -> None:
    shop = Shop(steps=[{"setWeight": 10}, {"analysis": ORDERS}, {"analysis": ORDERS}, {"pause": {}}])
    shop.release()
    assert shop.end_current_run("Successful")["currentStepIndex"] == 2
    assert shop.end_current_run("Successful")["currentStepIndex"] == 3
    assert len(shop.cluster.runs("shop", "track")) == 2


def test_a_run_that_somebody_deleted_is_measured_again() -> None:
    shop = Shop()
    shop.release_to_analysis()
    (run,) = shop.cluster.unfinished_runs()
    shop.cluster.delete_run("shop", run)
    shop.run_to_rest()
    assert shop.cluster.unfinished_runs() == [run]
