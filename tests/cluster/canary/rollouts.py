"""The canary controller in the cluster, and the rollouts of argo/ with the short times of a test."""

import os
import time
from pathlib import Path
from typing import Any, Final, Self

import yaml

from knrollout.api import names
from orderflow_sandbox.sandbox import ROOT
from tests.cluster.kube import Kube, as_list, run
from tests.cluster.stack import Stack

ARGO: Final = ROOT / "argo"
STAGES: Final = ("intake", "validate", "track", "notify", "shelve", "query")
_KEY: Final = "orderflow-analysis"
_SHORT: Final = {
    "interval": "5s",
    "counted-in": "5",
    "announced-within": "15",
    "margin": "0.2",
    "window": "30s",
    "least-requests": "20",
    "most-seconds": "4",
}
"""Arguments of the analysis templates: seconds where a shop uses minutes."""
_FIRST_WEIGHT: Final = 25
"""High, so that a few orders a second give a verdict in minutes and not in hours."""
_PAUSE: Final = "75s"
"""Longer than the audit's schedule and its grace."""

_WATCH_NAMESPACE_PATCH: Final = """\
- op: add
  path: /spec/template/spec/containers/0/env/-
  value: {{name: WATCH_NAMESPACE, value: {namespace}}}
"""


class Controller:
    """Use as a context manager: two replicas of the image in a separate namespace with separate access rights, so that
    they do not affect the controller of another namespace."""

    def __init__(self, image: str, watched_namespace: str, state: Path) -> None:
        self._watched_namespace = watched_namespace
        self.kube = Kube(f"{watched_namespace}-releases")
        self._image = image
        self._state = state

    def __enter__(self) -> Self:
        run(["kubectl", "apply", "--server-side", f"--filename={ARGO / 'crd/knativerollout.yaml'}"])
        run(["kubectl", "wait", "--for=condition=Established", f"crd/{names.PLURAL}.{names.GROUP}"])
        self.kube.apply(*self._objects())
        self.kube.kubectl("rollout", "status", "deployment/knrollout", "--timeout=180s")
        self.kube.until(60, "a leader", self.leader)
        return self

    def __exit__(self, *_: object) -> None:
        self.kube.kubectl(
            "delete", "--filename=-", "--ignore-not-found", "--timeout=120s", stdin=as_list(*self._objects())
        )

    def leader(self) -> str | None:
        """The name of the leading pod. The Lease names a pod for some seconds after the pod's end, too."""
        leases = self.kube.items("leases.coordination.k8s.io")
        return next((lease["spec"].get("holderIdentity") for lease in leases), None)

    def kill(self) -> str | None:
        """Deletes the leading pod without a grace period. Returns its name."""
        leader = self.leader()
        if leader is not None:
            self.kube.kubectl("delete", "pod", leader, "--grace-period=0", "--force", "--ignore-not-found")
        return leader

    def _objects(self) -> list[dict[str, Any]]:
        """The controller's manifests. The names of cluster-wide objects end with the watched namespace."""
        rendered = run(["kubectl", "kustomize", str(self._kustomization())])
        objects = [document for document in yaml.safe_load_all(rendered) if document]
        for document in objects:
            if document["kind"].startswith("ClusterRole"):
                document["metadata"]["name"] += f"-{self._watched_namespace}"
            if document.get("roleRef", {}).get("kind") == "ClusterRole":
                document["roleRef"]["name"] += f"-{self._watched_namespace}"
        return objects

    def _kustomization(self) -> Path:
        folder = self._state / "controller"
        folder.mkdir(parents=True, exist_ok=True)
        name, _, tag = self._image.rpartition(":")
        patch = _WATCH_NAMESPACE_PATCH.format(namespace=self._watched_namespace)
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.kube.namespace,
            "resources": [os.path.relpath(ARGO / "controller", folder)],
            "images": [{"name": "orderflow-rollout", "newName": name, "newTag": tag}],
            "patches": [{"target": {"kind": "Deployment"}, "patch": patch}],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        return folder


class Rollouts:
    """The rollouts in the namespace of the stages."""

    def __init__(self, stack: Stack, prometheus: str) -> None:
        self.kube = stack.kube
        self._stack = stack
        self._prometheus = prometheus

    def install(self) -> None:
        """Applies the analysis templates, their API key, and a rollout for each Service of the trials."""
        self.templates()
        for stage in STAGES:
            self.lead(stage)

    def templates(self) -> None:
        """Applies the analysis templates and the API key with which they query the release counts."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _KEY}}
        self.kube.apply({**secret, "stringData": {"api-key": self._stack.key}})
        self.kube.kubectl("apply", f"--kustomize={ARGO / 'analysis'}")

    def lead(self, stage: str) -> None:
        document = yaml.safe_load((ARGO / f"rollouts/{stage}.yaml").read_text())
        self.kube.apply(shortened(document, self._stack.options.namespace, self._prometheus))
        self.kube.until(120, f"a rollout of {stage} at rest", lambda: self._at_rest(stage) or None)

    def leave(self, stage: str) -> None:
        """Deletes the rollout. Knative then sends all traffic to the latest revision."""
        self.kube.kubectl("delete", names.PLURAL, stage, "--ignore-not-found", "--timeout=60s")

    def status(self, stage: str) -> dict[str, Any]:
        status: dict[str, Any] = self.kube.get(names.PLURAL, stage).get("status", {})
        return status

    def _at_rest(self, stage: str) -> bool:
        """Whether the controller observed the latest generation and no release is in progress (or it was aborted)."""
        rollout = self.kube.get(names.PLURAL, stage)
        status = rollout.get("status", {})
        observed = status.get("observedGeneration") == rollout["metadata"]["generation"]
        return observed and status.get("phase") in {"Healthy", "Degraded"} and "stableRevision" in status

    def shares(self, stage: str) -> dict[str, int]:
        """The percentage of traffic that the Route gives each revision now."""
        shares: dict[str, int] = {}
        for entry in self.kube.get("ksvc", stage)["status"].get("traffic", ()):
            name = entry.get("revisionName", "")
            shares[name] = shares.get(name, 0) + (entry.get("percent") or 0)
        return shares

    def release(self, stage: str, template: dict[str, Any]) -> str:
        """Changes the Service's template. Returns the new revision's name."""
        before = self.kube.get("ksvc", stage)["status"]["latestCreatedRevisionName"]
        patch = yaml.safe_dump({"spec": {"template": template}})
        self.kube.kubectl("patch", "ksvc", stage, "--type=merge", f"--patch={patch}")

        def created() -> str | None:
            latest: str = self.kube.get("ksvc", stage)["status"]["latestCreatedRevisionName"]
            return latest if latest != before else None

        return self.kube.until(30, f"a new revision of {stage}", created)


def shortened(document: dict[str, Any], namespace: str, prometheus: str) -> dict[str, Any]:
    """A rollout of argo/rollouts with short times, the weight of a test, and the addresses of this namespace."""
    canary = document["spec"]["strategy"]["canary"]
    document["spec"]["progressDeadlineSeconds"] = 60
    canary["steps"][0]["setWeight"] = max(_FIRST_WEIGHT, canary["steps"][0]["setWeight"])
    for step in canary["steps"]:
        if "pause" in step:
            step["pause"] = {"duration": _PAUSE}
    overrides = _SHORT | {"prometheus": prometheus, "domain": f"{namespace}.svc.cluster.local"}
    # The file's anchor makes the gates one object.
    for analysis in {id(each): each for each in _analyses(canary)}.values():
        template_names = [ref["templateName"] for ref in analysis["templates"]]
        parameters = {arg["name"] for name in template_names for arg in _template(name)["spec"]["args"]}
        changed = {name: value for name, value in overrides.items() if name in parameters}
        unchanged = [arg for arg in analysis["args"] if arg["name"] not in changed]
        analysis["args"] = [*unchanged, *({"name": n, "value": v} for n, v in changed.items())]
    return document


def _analyses(canary: dict[str, Any]) -> list[dict[str, Any]]:
    return [canary["analysis"], *(step["analysis"] for step in canary["steps"] if "analysis" in step)]


def _template(name: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.safe_load((ARGO / f"analysis/{name}.yaml").read_text())
    return template


def until_zero(rollouts: Rollouts, stage: str, revision: str, seconds: float) -> float | None:
    """When the revision's share returned to zero, in seconds since the epoch; None where this did not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = rollouts.status(stage)
        aborted = status.get("aborted") is not None and status.get("canaryRevision") == revision
        if aborted and rollouts.shares(stage).get(revision, 0) == 0:
            return time.time()
        time.sleep(0.5)
    return None
