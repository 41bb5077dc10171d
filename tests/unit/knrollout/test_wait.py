"""What `kn rollout status` says before Knative has observed a change."""

import pytest
from support.fake_cluster import NAMESPACE, ROLLOUT, SERVICE
from support.rollout_shop import Shop

from knrollout.api import names
from knrollout.cli.wait import release_phase


def test_the_previous_release_is_not_reported_before_knative_has_observed_the_configuration() -> None:
    """Knative observes the Service first, and the Configuration, which names the new revision, up to seconds later."""
    shop = Shop()
    cluster = shop.cluster
    service = cluster.objects["service", SERVICE]
    rollout = next(each for (kind, _), each in cluster.objects.items() if kind == "rollout")
    assert release_phase(cluster, rollout)[0] == "Healthy"
    outdated = {"type": "ConfigurationsReady", "status": "Unknown", "reason": "OutOfDate"}
    service["status"]["conditions"].append(outdated)
    assert release_phase(cluster, rollout) == ("Progressing", "Knative has not seen the Service as it is now")
    shop.run_to_rest()
    assert cluster.shares() == {shop.stable: 100}
    service["status"]["conditions"].remove(outdated)
    assert release_phase(cluster, rollout)[0] == "Healthy"


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (names.PROMOTE_ANNOTATION, "track-00003/1/1", "promote track-00003 past step 2"),
        (names.PROMOTE_ANNOTATION, "track-00003/1/full", "promote track-00003 in full"),
        (names.ABORT_ANNOTATION, "track-00003/1", "abort track-00003"),
        (names.RETRY_ANNOTATION, "track-00003/1", "retry track-00003"),
        (names.RERUN_ANNOTATION, "run-1", "retry, which repeats run-1"),
        (names.UNDO_ANNOTATION, "track-00002/track-00003", "undo to track-00002"),
        (names.TAKE_OVER_ANNOTATION, "3", "promote, which writes over the manual edit"),
    ],
)
def test_a_request_is_progressing_until_the_controller_has_seen_it(
    annotation: str, value: str, words: str
) -> None:
    """Also one that has no effect any more: then the status is that of the release again."""
    shop = Shop()
    shop.cluster.patch_rollout(NAMESPACE, ROLLOUT, {annotation: value}, None)
    assert release_phase(shop.cluster, shop.rollout) == (
        "Progressing",
        f"the controller has not taken up yet: {words}",
    )
    shop.run_to_rest()
    assert "taken up" not in release_phase(shop.cluster, shop.rollout)[1]


def test_requests_are_not_waited_for_where_an_earlier_controller_does_not_record_them() -> None:
    shop = Shop()
    del shop.rollout["status"]["observedRequests"]
    shop.cluster.patch_rollout(NAMESPACE, ROLLOUT, {names.ABORT_ANNOTATION: "track-00001/1"}, None)
    assert release_phase(shop.cluster, shop.rollout)[0] == "Healthy"
