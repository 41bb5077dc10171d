"""Reconciliation through the real Kubernetes client: what the unit tests show also holds over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    """Once `remote` is set, the controller reaches the cluster through HTTP."""

    remote: KubernetesCluster | None = None

    def reconcile_once(self) -> bool:
        if self.remote is None:
            return super().reconcile_once()
        before = self._versions()
        reconcile(self.remote, "shop", "track", self.cluster.now)
        self.cluster.settle()
        return before != self._versions()

    def run_to_rest(self) -> dict[str, object]:
        for _ in range(MAX_ROUNDS if self.remote is None else 12):
            self.reconcile_once()
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


def test_a_service_that_was_written_in_between_is_not_overwritten(shop: Remote) -> None:
    assert shop.remote is not None
    version = shop.cluster.objects["service", "track"]["metadata"]["resourceVersion"]
    action = SetTraffic("track", version, (TrafficTarget(shop.stable, 100),), "track/99")
    shop.cluster.edit_traffic([{"revisionName": shop.stable, "percent": 100, "tag": "other"}])
    with pytest.raises(ConflictError):
        shop.remote.set_traffic("shop", action)


def test_a_missing_object_is_none_and_not_an_error(shop: Remote) -> None:
    assert shop.remote is not None
    assert shop.remote.rollout("shop", "gone") is None
    assert shop.remote.template("shop", "gone", cluster_scope=True) is None
    shop.remote.stop_run("shop", "gone")
    shop.remote.delete_run("shop", "gone")


class WithoutResources(KubeApi):
    """An API server without the CustomResourceDefinition."""

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        return 404, {"reason": "NotFound"}


@pytest.mark.parametrize("namespace", ["shop", None])
def test_without_the_definition_there_are_no_rollouts(tmp_path: Path, namespace: str | None) -> None:
    with serve(WithoutResources(Shop().cluster), tmp_path) as kubeconfig:
        remote = KubernetesCluster(config.new_client_from_config(str(kubeconfig)))
        assert remote.rollouts(namespace) == []


def test_the_controllers_role_allows_its_requests_and_no_other_writes(tmp_path: Path) -> None:
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
    reads = {"get", "list", "watch"}
    assert api.requests <= allowed
    assert {one for one in allowed if one[2] not in reads} <= api.requests
