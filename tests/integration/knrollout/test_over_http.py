"""The controller's round through the real client: what the cluster in memory proved holds over HTTP as well."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import config
from support.kubeapi import KubeApi, serve, serve_cluster
from support.rollout_shop import MAX_ROUNDS, ORDERS, Shop

from knrollout.api.objects import TrafficTarget
from knrollout.cluster.errors import ConflictError
from knrollout.cluster.kubernetes import KubernetesCluster
from knrollout.controller.reconcile import reconcile
from knrollout.decide.actions import SetTraffic

ARGO = Path(__file__).parents[3] / "argo"


class Remote(Shop):
    """The shop's controller sees its cluster through HTTP once it is there."""

    remote: KubernetesCluster | None = None

    def reconcile(self) -> bool:
        if self.remote is None:
            return super().reconcile()
        before = self._versions()
        reconcile(self.remote, "shop", "track", self.cluster.now)
        self.cluster.settle()
        return before != self._versions()

    def run_to_rest(self) -> dict[str, object]:
        for _ in range(MAX_ROUNDS if self.remote is None else 12):
            self.reconcile()
        return self.cluster.status()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Remote]:
    shop = Remote()
    with serve_cluster(shop.cluster, tmp_path) as kubeconfig:
        shop.remote = KubernetesCluster(config.new_client_from_config(str(kubeconfig)))
        yield shop


def test_a_good_release_goes_from_nothing_to_everything(shop: Remote) -> None:
    canary = shop.release_and_promote()
    assert shop.cluster.shares() == {canary: 100}
    assert shop.cluster.status()["phase"] == "Healthy"
    reasons = [d["reason"] for (kind, _), d in shop.cluster.objects.items() if kind == "event"]
    assert {"Started", "SetWeight", "AnalysisRunSuccessful", "Promoted", "Healthy"} <= set(reasons)


def test_a_failed_release_goes_back_and_its_runs_are_stopped(shop: Remote) -> None:
    shop.release_to_analysis()
    shop.end_current_run("Failed")
    assert shop.cluster.shares() == {shop.stable: 100}


def test_a_service_that_somebody_wrote_in_between_is_not_written(shop: Remote) -> None:
    assert shop.remote is not None
    seen = shop.cluster.objects["service", "track"]["metadata"]["resourceVersion"]
    wanted = SetTraffic("track", seen, (TrafficTarget(shop.stable, 100),), "track/99")
    shop.cluster.edit_traffic([{"revisionName": shop.stable, "percent": 100, "tag": "other"}])
    with pytest.raises(ConflictError):
        shop.remote.set_traffic("shop", wanted)


def test_what_is_not_there_is_none_and_not_an_error(shop: Remote) -> None:
    assert shop.remote is not None
    assert shop.remote.rollout("shop", "gone") is None
    assert shop.remote.template("shop", "gone", cluster_scope=True) is None
    shop.remote.stop_run("shop", "gone")
    shop.remote.delete_run("shop", "gone")


def test_the_controllers_role_allows_what_it_asks_and_no_write_that_it_does_not(tmp_path: Path) -> None:
    shop = Remote(analysis={"templates": [{"templateName": "orders"}], "args": ORDERS["args"]})
    shop.change(analysis={"unsuccessfulRunHistoryLimit": 0, "successfulRunHistoryLimit": 0})
    api = KubeApi(shop.cluster)
    with serve(api, tmp_path) as kubeconfig:
        shop.remote = KubernetesCluster(config.new_client_from_config(str(kubeconfig)))
        for _ in range(2):
            shop.release()
            shop.end_current_run("Failed")
        shop.release()
        shop.release()
        shop.remote.template("shop", "any", cluster_scope=True)
    roles = yaml.safe_load_all((ARGO / "controller/rbac.yaml").read_text())
    (role,) = (d for d in roles if d["kind"] == "ClusterRole" and d["metadata"]["name"] == "knrollout")
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    watched = {"get", "list", "watch"}
    assert api.requests <= allowed
    assert {one for one in allowed if one[2] not in watched} <= api.requests
