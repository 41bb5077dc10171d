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
STAGES: Final = ("validate", "notify")
_KEY: Final = "orderflow-analysis"
_SHORT: Final = {
    "interval": "5s",
    "window": "30s",
    "least-requests": "20",
    "most-seconds": "4",
    "seconds": "30",
    "minutes": "2",
}
"""Arguments of the templates. A shop has minutes where a test has seconds."""
_FIRST_WEIGHT: Final = 25
"""Of a few orders a second, so many that a verdict takes minutes and not hours."""

_ONLY: Final = """\
- op: add
  path: /spec/template/spec/containers/0/env/-
  value: {{name: WATCH_NAMESPACE, value: {namespace}}}
"""


class Controller:
    """Use as a context manager: two replicas of the image in a namespace of their own, with rights of their own, so
    that one of another namespace does not mind."""

    def __init__(self, image: str, watched: str, state: Path) -> None:
        self._watched = watched
        self.kube = Kube(f"{watched}-releases")
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
            "delete", "--filename=-", "--ignore-not-found", "--timeout=120s", given=as_list(*self._objects())
        )

    def leader(self) -> str | None:
        """The pod that leads; the Lease names it also for a while after its death."""
        leases = self.kube.items("leases.coordination.k8s.io")
        return next((lease["spec"].get("holderIdentity") for lease in leases), None)

    def kill(self) -> str | None:
        """The leading process, at once and without a word."""
        leader = self.leader()
        if leader is not None:
            self.kube.kubectl("delete", "pod", leader, "--grace-period=0", "--force", "--ignore-not-found")
        return leader

    def _objects(self) -> list[dict[str, Any]]:
        """What belongs to no namespace is named after the one that is watched."""
        rendered = run(["kubectl", "kustomize", str(self._kustomization())])
        objects = [each for each in yaml.safe_load_all(rendered) if each]
        for each in objects:
            if each["kind"].startswith("ClusterRole"):
                each["metadata"]["name"] += f"-{self._watched}"
            if each.get("roleRef", {}).get("kind") == "ClusterRole":
                each["roleRef"]["name"] += f"-{self._watched}"
        return objects

    def _kustomization(self) -> Path:
        folder = self._state / "controller"
        folder.mkdir(parents=True, exist_ok=True)
        name, _, tag = self._image.rpartition(":")
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.kube.namespace,
            "resources": [os.path.relpath(ARGO / "controller", folder)],
            "images": [{"name": "orderflow-rollout", "newName": name, "newTag": tag}],
            "patches": [{"target": {"kind": "Deployment"}, "patch": _ONLY.format(namespace=self._watched)}],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        return folder


class Rollouts:
    """In the namespace of the stages."""

    def __init__(self, stack: Stack, prometheus: str) -> None:
        self.kube = stack.kube
        self._stack = stack
        self._prometheus = prometheus

    def install(self) -> None:
        """The templates, their key, and a rollout for each Service that is tried."""
        self.templates()
        for stage in STAGES:
            self.lead(stage)

    def templates(self) -> None:
        """And the key with which they ask query."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _KEY}}
        self.kube.apply({**secret, "stringData": {"api-key": self._stack.key}})
        self.kube.kubectl("apply", f"--kustomize={ARGO / 'analysis'}")

    def lead(self, stage: str) -> None:
        document = yaml.safe_load((ARGO / f"rollouts/{stage}.yaml").read_text())
        self.kube.apply(shortened(document, self._stack.options.namespace, self._prometheus))
        self.kube.until(120, f"a rollout of {stage} at rest", lambda: self._at_rest(stage) or None)

    def leave(self, stage: str) -> None:
        """Without a rollout Knative's own rules hold again: the newest revision gets everything."""
        self.kube.kubectl("delete", names.PLURAL, stage, "--ignore-not-found", "--timeout=60s")

    def status(self, stage: str) -> dict[str, Any]:
        status: dict[str, Any] = self.kube.get(names.PLURAL, stage).get("status", {})
        return status

    def _at_rest(self, stage: str) -> bool:
        """Led as it is now; an aborted release is at rest too."""
        rollout = self.kube.get(names.PLURAL, stage)
        status = rollout.get("status", {})
        observed = status.get("observedGeneration") == rollout["metadata"]["generation"]
        return observed and status.get("phase") in {"Healthy", "Degraded"} and "stableRevision" in status

    def shares(self, stage: str) -> dict[str, int]:
        """What the Route gives each revision now."""
        shares: dict[str, int] = {}
        for entry in self.kube.get("ksvc", stage)["status"].get("traffic", ()):
            name = entry.get("revisionName", "")
            shares[name] = shares.get(name, 0) + (entry.get("percent") or 0)
        return shares

    def release(self, stage: str, template: dict[str, Any]) -> str:
        """The new revision's name."""
        before = self.kube.get("ksvc", stage)["status"]["latestCreatedRevisionName"]
        patch = yaml.safe_dump({"spec": {"template": template}})
        self.kube.kubectl("patch", "ksvc", stage, "--type=merge", f"--patch={patch}")

        def created() -> str | None:
            latest: str = self.kube.get("ksvc", stage)["status"]["latestCreatedRevisionName"]
            return latest if latest != before else None

        return self.kube.until(30, f"a new revision of {stage}", created)


def shortened(document: dict[str, Any], namespace: str, prometheus: str) -> dict[str, Any]:
    """A rollout of argo/rollouts with a test's times and weight, and the addresses of this namespace."""
    canary = document["spec"]["strategy"]["canary"]
    document["spec"]["progressDeadlineSeconds"] = 60
    canary["steps"][0]["setWeight"] = _FIRST_WEIGHT
    for arg in canary["steps"][1]["analysis"]["args"]:
        if arg["name"] == "weight":
            arg["value"] = str(_FIRST_WEIGHT)
    addresses = {"prometheus": prometheus, "query": f"http://query.{namespace}.svc.cluster.local"}
    for analysis in [canary["analysis"], *(s["analysis"] for s in canary["steps"] if "analysis" in s)]:
        used = [ref["templateName"] for ref in analysis["templates"]]
        known = {arg["name"] for name in used for arg in _template(name)["spec"]["args"]}
        overrides = {name: value for name, value in (_SHORT | addresses).items() if name in known}
        unchanged = [arg for arg in analysis["args"] if arg["name"] not in overrides]
        analysis["args"] = [*unchanged, *({"name": n, "value": v} for n, v in overrides.items())]
    return document


def _template(name: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.safe_load((ARGO / f"analysis/{name}.yaml").read_text())
    return template


def until_zero(rollouts: Rollouts, stage: str, revision: str, seconds: float) -> float | None:
    """When the revision's share was back at nothing, in seconds since the epoch; None if it never was."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = rollouts.status(stage)
        aborted = status.get("aborted") is not None and status.get("canaryRevision") == revision
        if aborted and rollouts.shares(stage).get(revision, 0) == 0:
            return time.time()
        time.sleep(0.5)
    return None
