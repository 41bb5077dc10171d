"""An API server in memory with what matters of Kubernetes, Knative and Argo's analysis controller.

Kubernetes: resourceVersions and conflicts, generations, a status of its own. Knative: a changed
template makes a revision, the Route follows once its revisions are ready. Argo: a test ends the runs.
"""

import copy
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from knrollout.api import names
from knrollout.api.objects import FINISHED_PHASES
from knrollout.cluster.errors import ConflictError
from knrollout.decide.actions import SetTraffic
from knrollout.decide.events import Event

NAMESPACE = "shop"
SERVICE = "track"
ROLLOUT = "track"
Document = dict[str, Any]


class FakeCluster:
    """Time passes only by advance_clock."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
        self.objects: dict[tuple[str, str], Document] = {}
        self.events: list[Event] = []
        self.traffic_writes: list[SetTraffic] = []
        self._versions = itertools.count(1)

    def advance_clock(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # The port of the controller and the command.

    def rollout(self, namespace: str, name: str) -> Document | None:
        return self._get("rollout", name)

    def rollouts(self, namespace: str | None) -> list[Document]:
        return self._all("rollout")

    def service(self, namespace: str, name: str) -> Document | None:
        return self._get("service", name)

    def revisions(self, namespace: str, service: str) -> list[Document]:
        return self._all("revision")

    def pods(self, namespace: str, service: str) -> list[Document]:
        return self._all("pod")

    def runs(self, namespace: str, rollout: str) -> list[Document]:
        return [r for r in self._all("run") if r["metadata"]["labels"][names.ROLLOUT_LABEL] == rollout]

    def template(self, namespace: str, name: str, *, cluster_scope: bool) -> Document | None:
        return self._get("cluster template" if cluster_scope else "template", name)

    def write_status(self, rollout: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        stored = self._checked("rollout", rollout["metadata"]["name"], rollout["metadata"]["resourceVersion"])
        stored["status"] = copy.deepcopy(dict(status))
        self._touch(stored)

    def set_traffic(self, namespace: str, action: SetTraffic) -> None:
        stored = self._checked("service", action.service, action.resource_version)
        self.traffic_writes.append(action)
        stored["metadata"].setdefault("annotations", {})[names.SPLIT_ANNOTATION] = action.split_annotation
        self.edit_traffic([target.to_json() for target in action.targets], action.service)

    def start_run(self, manifest: Mapping[str, Any]) -> None:
        if ("run", manifest["metadata"]["name"]) not in self.objects:
            self.add("run", copy.deepcopy(dict(manifest)))

    def stop_run(self, namespace: str, name: str) -> None:
        run = self.objects.get(("run", name))
        if run is not None:
            run["spec"]["terminate"] = True
            self._touch(run)

    def delete_run(self, namespace: str, name: str) -> None:
        self.objects.pop(("run", name), None)

    def create_event(self, rollout: Mapping[str, Any], event: Event) -> None:
        self.events.append(event)

    def patch_rollout(
        self, namespace: str, name: str, annotations: Mapping[str, str | None], paused: bool | None
    ) -> None:
        stored = self.objects["rollout", name]
        for key, value in annotations.items():
            if value is None:
                stored["metadata"]["annotations"].pop(key, None)
            else:
                stored["metadata"]["annotations"][key] = value
        if paused is not None and stored["spec"].get("paused", False) != paused:
            stored["spec"]["paused"] = paused
            stored["metadata"]["generation"] += 1
        self._touch(stored)

    # What others do: people, Knative, Argo.

    def add(self, kind: str, document: Document) -> Document:
        metadata = document["metadata"]
        metadata.setdefault("namespace", NAMESPACE)
        metadata.setdefault("annotations", {})
        metadata.update(
            uid=f"uid-{kind}-{metadata['name']}",
            generation=1,
            creationTimestamp=self.now.isoformat(),
        )
        self._touch(document)
        self.objects[kind, metadata["name"]] = document
        return document

    def remove(self, kind: str, name: str) -> None:
        self.objects.pop((kind, name), None)

    def edit_traffic(self, traffic: list[Document], service: str = SERVICE) -> None:
        """Somebody writes spec.traffic; Knative observes it later, in settle."""
        stored = self.objects["service", service]
        if stored["spec"].get("traffic") != traffic:
            stored["spec"]["traffic"] = traffic
            stored["metadata"]["generation"] += 1
        self._touch(stored)

    def deploy(self, *, ready: bool = True) -> str:
        """Changes the template: Knative creates the revision at once. Returns its name."""
        stored = self.objects["service", SERVICE]
        number = stored["metadata"]["generation"] = stored["metadata"]["generation"] + 1
        revision = f"{SERVICE}-{number:05}"
        labels = {names.GENERATION_LABEL: str(number), names.SERVICE_LABEL: SERVICE}
        self.add("revision", {"metadata": {"name": revision, "labels": labels}})
        self.make_ready(revision, ready=ready)
        stored["status"]["latestCreatedRevisionName"] = revision
        self.settle()
        return revision

    def make_ready(self, revision: str, *, ready: bool = True) -> None:
        stored = self.objects.get(("revision", revision))
        if stored is not None:
            condition = {"type": "Ready", "status": "True" if ready else "False", "message": ""}
            stored["status"] = {"conditions": [condition]}
            self._touch(stored)

    def settle(self) -> None:
        """Knative observes the Service. Its Route follows if every revision in its traffic is ready."""
        stored = self.objects["service", SERVICE]
        status = stored["status"]
        status["observedGeneration"] = stored["metadata"]["generation"]
        latest = status.get("latestCreatedRevisionName")
        traffic = [
            {**entry, "revisionName": entry.get("revisionName", latest)}
            for entry in stored["spec"]["traffic"]
        ]
        ready = all(self.is_ready(entry["revisionName"]) for entry in traffic)
        if ready:
            status["traffic"] = traffic
        status["conditions"] = [{"type": "RoutesReady", "status": "True" if ready else "Unknown"}]
        self._touch(stored)

    def is_ready(self, revision: str) -> bool:
        stored = self.objects.get(("revision", revision))
        return stored is not None and stored["status"]["conditions"][0]["status"] == "True"

    def end_container(self, revision: str, reason: str, *, container: str = "user-container") -> None:
        """A container of the revision's only pod ends, and the kubelet starts it again."""
        name = f"{revision}-pod"
        if ("pod", name) not in self.objects:
            labels = {names.REVISION_OF_POD_LABEL: revision, names.SERVICE_LABEL: SERVICE}
            self.add("pod", {"metadata": {"name": name, "labels": labels}})
        ended = {"reason": reason, "finishedAt": f"{self.now:%Y-%m-%dT%H:%M:%SZ}"}
        status = {
            "name": container,
            "restartCount": 1,
            "state": {"running": {}},
            "lastState": {"terminated": ended},
        }
        self.objects["pod", name]["status"] = {"containerStatuses": [status]}
        self._touch(self.objects["pod", name])

    def end_run(self, name: str, phase: str, measured: int = 1, value: str = "", failed: int = 0) -> None:
        """Argo ends a run. measured: of each metric; all are good if the phase is Successful or Running. value: that of
        the last measurement."""
        run = self.objects["run", name]
        successful = measured if phase in {"Successful", "Running"} else 0
        results = [
            {
                "name": metric["name"],
                "phase": phase,
                "count": measured,
                "successful": successful,
                "failed": failed,
                "measurements": [{"value": value}],
            }
            for metric in run["spec"]["metrics"]
        ]
        run["status"] = {"phase": phase, "metricResults": results}
        self._touch(run)

    def unfinished_runs(self) -> list[str]:
        """Their names, in no defined order."""
        return [
            run["metadata"]["name"]
            for run in self._all("run")
            if run.get("status", {}).get("phase") not in FINISHED_PHASES
        ]

    def shares(self) -> dict[str, int]:
        """Percentages in spec.traffic, by revision; without those of 0 %."""
        shares: dict[str, int] = {}
        for entry in self.objects["service", SERVICE]["spec"]["traffic"]:
            name = entry.get("revisionName", "latest")
            shares[name] = shares.get(name, 0) + entry.get("percent", 0)
        return {name: percent for name, percent in shares.items() if percent}

    def tags(self) -> dict[str, str]:
        traffic = self.objects["service", SERVICE]["spec"]["traffic"]
        return {entry["tag"]: entry["revisionName"] for entry in traffic if "tag" in entry}

    def status(self) -> Document:
        status = self.objects["rollout", ROLLOUT].get("status", {})
        assert isinstance(status, dict)
        return status

    def _get(self, kind: str, name: str) -> Document | None:
        stored = self.objects.get((kind, name))
        return copy.deepcopy(stored) if stored is not None else None

    def _all(self, kind: str) -> list[Document]:
        return [copy.deepcopy(document) for (each, _), document in self.objects.items() if each == kind]

    def _checked(self, kind: str, name: str, version: str) -> Document:
        stored = self.objects[kind, name]
        if stored["metadata"]["resourceVersion"] != version:
            raise ConflictError(f"{kind} {name} was written by somebody else")
        return stored

    def _touch(self, document: Document) -> None:
        document["metadata"]["resourceVersion"] = str(next(self._versions))
