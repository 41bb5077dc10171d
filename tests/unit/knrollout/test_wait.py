"""What `kn rollout status` says before Knative has observed a change."""

from support.fake_cluster import SERVICE
from support.rollout_shop import Shop

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
