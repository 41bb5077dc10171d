"""A shop's own folder (SITE in pipeline/deploy.py): the shipped overlays with this run's namespaces and addresses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from orderflow_sandbox.sandbox import ROOT
from tests.cluster.canary.rollouts import ARGO, shortened
from tests.cluster.kube import ClusterError
from tests.cluster.servers import Servers

PULLING: Final = "registry"
"""The Secret with which the nodes pull."""
_SMALL: Final = {"cpu": "5m", "memory": "64Mi"}
_STARTS_IN_SECONDS: Final = 300


@dataclass(frozen=True)
class Place:
    """Where an environment is, and what runs beside it."""

    environment: str
    namespace: str
    servers: Servers


def write(folder: Path, places: list[Place], prometheus: str | None) -> Path:
    """The folder. Without prometheus the rollouts are left as they are shipped, minutes and addresses included."""
    for place in places:
        _write(folder / place.environment, _overlay(place))
    production = next((place for place in places if place.environment == "production"), None)
    if prometheus is not None and production is not None:
        files = sorted((ARGO / "rollouts").glob("[!k]*.yaml"))
        if not files:
            raise ClusterError("argo/rollouts has no rollouts")
        for file in files:
            document = shortened(yaml.safe_load(file.read_text()), production.namespace, prometheus)
            # Everything of it starts anew at once: a small node has much to do.
            document["spec"]["progressDeadlineSeconds"] = _STARTS_IN_SECONDS
            _write(folder / "rollouts", document, file.name)
        _write(folder / "rollouts", _kustomization(resources=[file.name for file in files]))
    return folder


def _overlay(place: Place) -> dict[str, Any]:
    settings = {
        "KAFKA_BOOTSTRAP": place.servers.bootstrap,
        # The run's Kafka has neither TLS nor users.
        "KAFKA_CONFIG_FILE": None,
        "PUBLIC_URL": f"http://query.{place.namespace}.svc.cluster.local",
    }
    configmap = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orderflow"}, "data": settings}
    small = "/spec/template/spec/containers/0/resources/requests"
    sidecar = "/spec/template/metadata/annotations/queue.sidecar.serving.knative.dev~1cpu-resource-request"
    patches = [
        {"target": {"kind": "ConfigMap", "name": "orderflow"}, "patch": yaml.safe_dump(configmap)},
        _patch({"kind": "ServiceAccount"}, ("add", "/imagePullSecrets", [{"name": PULLING}])),
        # Two environments, and two revisions of three stages, on one small node.
        _patch(
            {"group": "serving.knative.dev", "kind": "Service"},
            ("replace", small, _SMALL),
            ("add", sidecar, "5m"),
        ),
        _patch(
            {"group": "serving.knative.dev", "kind": "Service", "name": "query"},
            ("replace", _audit_url(), f"http://audit.{place.namespace}.svc.cluster.local"),
        ),
        _patch({"kind": "Job", "name": "migrate"}, ("replace", small, _SMALL)),
        _patch(
            {"kind": "CronJob", "name": "audit"},
            ("replace", f"/spec/jobTemplate{small}", _SMALL),
            ("replace", "/spec/schedule", "* * * * *"),
        ),
    ]
    return _kustomization(
        namespace=place.namespace,
        resources=[f"../../knative/overlays/{place.environment}"],
        patches=patches,
    )


def _audit_url() -> str:
    """Where query's manifest says it: it names the namespace."""
    query = yaml.safe_load((ROOT / "knative/base/query.yaml").read_text())
    names = [each["name"] for each in query["spec"]["template"]["spec"]["containers"][0]["env"]]
    return f"/spec/template/spec/containers/0/env/{names.index('AUDIT_URL')}/value"


def _patch(target: dict[str, str], *operations: tuple[str, str, Any]) -> dict[str, Any]:
    steps = [{"op": op, "path": path, "value": value} for op, path, value in operations]
    return {"target": target, "patch": yaml.safe_dump(steps)}


def _kustomization(**content: Any) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **content}


def _write(folder: Path, document: dict[str, Any], name: str = "kustomization.yaml") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(document, sort_keys=False))
