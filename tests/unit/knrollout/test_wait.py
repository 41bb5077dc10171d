"""What `kn rollout status` says while Knative is at work."""

from support.fake_cluster import SERVICE
from support.rollout_shop import Shop

from knrollout.cli.wait import release_phase


def test_a_service_whose_configuration_is_not_seen_yet_is_not_taken_for_the_release_before() -> None:
    """Knative observes the Service first; the revision is the Configuration's, which may come seconds later."""
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
