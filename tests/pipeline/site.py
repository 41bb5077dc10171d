"""A shop's folder (SITE in pipeline/deploy.py): the shipped overlays with the namespaces and addresses of this run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from orderflow_sandbox.sandbox import ROOT
from tests.cluster.canary.rollouts import ARGO, shortened
from tests.cluster.kube import ClusterError
from tests.cluster.servers import Servers
from tests.cluster.stack import variable_path

PULL_SECRET: Final = "registry"
"""The Secret with which the nodes pull images."""
_VERIFIED: Final = ROOT / "knative/components/verified-senders"
_SMALL: Final = {"cpu": "5m", "memory": "64Mi"}
_STARTS_IN_SECONDS: Final = 300


@dataclass(frozen=True)
class Environment:
    """`name` is staging or production; `servers` are its Kafka, PostgreSQL and mail server."""

    name: str
    namespace: str
    servers: Servers


def write(folder: Path, environments: list[Environment], prometheus: str | None) -> Path:
    """Returns the folder. Without `prometheus` the rollouts stay as shipped, with their minutes and addresses."""
    for environment in environments:
        _write(folder / environment.name, _overlay(environment))
    production = next((each for each in environments if each.name == "production"), None)
    if prometheus is not None and production is not None:
        files = sorted((ARGO / "rollouts").glob("[!k]*.yaml"))
        if not files:
            raise ClusterError("argo/rollouts has no rollouts")
        for file in files:
            document = shortened(yaml.safe_load(file.read_text()), production.namespace, prometheus)
            # All stages start new revisions at once, which takes long on a small node.
            document["spec"]["progressDeadlineSeconds"] = _STARTS_IN_SECONDS
            _write(folder / "rollouts", document, file.name)
        _write(folder / "rollouts", _kustomization(resources=[file.name for file in files]))
    return folder


def _overlay(environment: Environment) -> dict[str, Any]:
    settings = {
        "KAFKA_BOOTSTRAP": environment.servers.bootstrap,
        # The Kafka of this run has neither TLS nor users.
        "KAFKA_CONFIG_FILE": None,
        "OIDC_ISSUER": None,
        "PUBLIC_URL": f"http://query.{environment.namespace}.svc.cluster.local",
    }
    configmap = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orderflow"}, "data": settings}
    domain = f"{environment.namespace}.svc.cluster.local"
    small = "/spec/template/spec/containers/0/resources/requests"
    sidecar = "/spec/template/metadata/annotations/queue.sidecar.serving.knative.dev~1cpu-resource-request"
    patches = [
        {"target": {"kind": "ConfigMap", "name": "orderflow"}, "patch": yaml.safe_dump(configmap)},
        _patch({"kind": "ServiceAccount"}, ("add", "/imagePullSecrets", [{"name": PULL_SECRET}])),
        # Two environments, with two revisions of three stages, must fit on one small node.
        _patch(
            {"group": "serving.knative.dev", "kind": "Service"},
            ("replace", small, _SMALL),
            ("add", sidecar, "5m"),
        ),
        _patch(
            {"group": "serving.knative.dev", "kind": "Service", "name": "query"},
            ("replace", variable_path("query", "AUDIT_URL"), f"http://audit.{domain}"),
            ("replace", variable_path("query", "SHADOW_URL"), f"http://{{revision}}.{domain}"),
        ),
        _patch({"kind": "Job", "name": "migrate"}, ("replace", small, _SMALL)),
        _patch(
            {"kind": "CronJob", "name": "audit"},
            ("replace", f"/spec/jobTemplate{small}", _SMALL),
            ("replace", "/spec/schedule", "* * * * *"),
        ),
    ]
    if environment.name == "production":
        patches += [_without_verification(file.stem) for file in sorted(_VERIFIED.glob("[!ik]*.yaml"))]
    return _kustomization(
        namespace=environment.namespace,
        resources=[f"../../knative/overlays/{environment.name}"],
        patches=patches,
    )


def _without_verification(stage: str) -> dict[str, Any]:
    """This cluster has no Eventing that could send tokens. The component's variables are behind those of the base."""
    base = yaml.safe_load((ROOT / f"knative/base/{stage}.yaml").read_text())
    first = len(base["spec"]["template"]["spec"]["containers"][0]["env"])
    added = [
        each
        for each in yaml.safe_load((_VERIFIED / f"{stage}.yaml").read_text())
        if each["path"].endswith("/env/-")
    ]
    steps = [{"op": "remove", "path": f"/spec/template/spec/containers/0/env/{first}"} for _ in added]
    target = {"group": "serving.knative.dev", "kind": "Service", "name": stage}
    return {"target": target, "patch": yaml.safe_dump(steps)}


def _patch(target: dict[str, str], *operations: tuple[str, str, Any]) -> dict[str, Any]:
    steps = [{"op": op, "path": path, "value": value} for op, path, value in operations]
    return {"target": target, "patch": yaml.safe_dump(steps)}


def _kustomization(**content: Any) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **content}


def _write(folder: Path, document: dict[str, Any], name: str = "kustomization.yaml") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(document, sort_keys=False))
