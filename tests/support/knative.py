"""An API server in memory with what matters of Kubernetes, Knative and Argo's analysis controller.

Kubernetes: resourceVersions and conflicts, generations, a status of its own. Knative: a changed
template makes a revision, the Route follows once its revisions are ready. Argo: runs as they are told.
"""

import copy
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from knrollout.api import names
from knrollout.cluster.errors import ConflictError
from knrollout.decide.actions import SetTraffic
from knrollout.decide.events import Notice

NAMESPACE = "shop"
SERVICE = "track"
ROLLOUT = "track"
Document = dict[str, Any]


class FakeCluster:
    """Times are those of the clock that a test turns."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
        self.objects: dict[tuple[str, str], Document] = {}
        self.notices: list[Notice] = []
        self.traffic_writes: list[SetTraffic] = []
        self._versions = itertools.count(1)

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # What a controller and the command ask.

    def rollout(self, namespace: str, name: str) -> Document | None:
        return self._get("rollout", name)

    def rollouts(self, namespace: str | None) -> list[Document]:
        return self._all("rollout")

    def service(self, namespace: str, name: str) -> Document | None:
        return self._get("service", name)

    def revisions(self, namespace: str, service: str) -> list[Document]:
        return self._all("revision")

    def runs(self, namespace: str, rollout: str) -> list[Document]:
        return [r for r in self._all("run") if r["metadata"]["labels"][names.ROLLOUT_LABEL] == rollout]

    def template(self, namespace: str, name: str, *, cluster_wide: bool) -> Document | None:
        return self._get("cluster template" if cluster_wide else "template", name)

    def write_status(self, rollout: Document, status: Mapping[str, Any]) -> None:
        kept = self._held("rollout", rollout["metadata"]["name"], rollout["metadata"]["resourceVersion"])
        kept["status"] = copy.deepcopy(dict(status))
        self._touch(kept)

    def set_traffic(self, namespace: str, wanted: SetTraffic) -> None:
        kept = self._held("service", wanted.service, wanted.resource_version)
        self.traffic_writes.append(wanted)
        kept["metadata"].setdefault("annotations", {})[names.SPLIT_ANNOTATION] = wanted.mark
        self.edit_traffic([target.write() for target in wanted.targets], wanted.service)

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

    def tell(self, rollout: Mapping[str, Any], notice: Notice) -> None:
        self.notices.append(notice)

    def ask(
        self, namespace: str, name: str, annotations: Mapping[str, str | None], paused: bool | None
    ) -> None:
        kept = self.objects["rollout", name]
        for key, value in annotations.items():
            if value is None:
                kept["metadata"]["annotations"].pop(key, None)
            else:
                kept["metadata"]["annotations"][key] = value
        if paused is not None and kept["spec"].get("paused", False) != paused:
            kept["spec"]["paused"] = paused
            kept["metadata"]["generation"] += 1
        self._touch(kept)

    # What others do.

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
        """Somebody writes spec.traffic; Knative comes later, with settle."""
        kept = self.objects["service", service]
        if kept["spec"].get("traffic") != traffic:
            kept["spec"]["traffic"] = traffic
            kept["metadata"]["generation"] += 1
        self._touch(kept)

    def deploy(self, *, ready: bool = True) -> str:
        """A new template: Knative makes the revision at once. Answers its name."""
        kept = self.objects["service", SERVICE]
        number = kept["metadata"]["generation"] = kept["metadata"]["generation"] + 1
        revision = f"{SERVICE}-{number:05}"
        labels = {names.GENERATION_LABEL: str(number), names.CONFIGURATION_LABEL: SERVICE}
        self.add("revision", {"metadata": {"name": revision, "labels": labels}})
        self.make_ready(revision, ready=ready)
        kept["status"]["latestCreatedRevisionName"] = revision
        self.settle()
        return revision

    def make_ready(self, revision: str, *, ready: bool = True) -> None:
        kept = self.objects.get(("revision", revision))
        if kept is not None:
            condition = {"type": "Ready", "status": "True" if ready else "False", "message": ""}
            kept["status"] = {"conditions": [condition]}
            self._touch(kept)

    def settle(self) -> None:
        """Knative observes the Service; its Route follows if every revision that it names is ready."""
        kept = self.objects["service", SERVICE]
        status = kept["status"]
        status["observedGeneration"] = kept["metadata"]["generation"]
        latest = status.get("latestCreatedRevisionName")
        resolved = [
            {**entry, "revisionName": entry.get("revisionName", latest)} for entry in kept["spec"]["traffic"]
        ]
        fine = all(self.is_ready(entry["revisionName"]) for entry in resolved)
        if fine:
            status["traffic"] = resolved
        status["conditions"] = [{"type": "RoutesReady", "status": "True" if fine else "Unknown"}]
        self._touch(kept)

    def is_ready(self, revision: str) -> bool:
        kept = self.objects.get(("revision", revision))
        return kept is not None and kept["status"]["conditions"][0]["status"] == "True"

    def end_run(self, name: str, phase: str, measured: int = 1) -> None:
        """Argo ends a run; each metric was measured so often, and successfully if the run was successful."""
        run = self.objects["run", name]
        good = measured if phase in {"Successful", "Running"} else 0
        results = [
            {"name": metric["name"], "phase": phase, "count": measured, "successful": good}
            for metric in run["spec"]["metrics"]
        ]
        run["status"] = {"phase": phase, "metricResults": results}
        self._touch(run)

    def running(self) -> list[str]:
        """Runs that have not ended, in no sequence that matters."""
        ended = {"Successful", "Failed", "Error", "Inconclusive"}
        return [
            r["metadata"]["name"] for r in self._all("run") if r.get("status", {}).get("phase") not in ended
        ]

    def shares(self) -> dict[str, int]:
        """What the Service sends where, by revision; nothing is left out."""
        found: dict[str, int] = {}
        for entry in self.objects["service", SERVICE]["spec"]["traffic"]:
            name = entry.get("revisionName", "latest")
            found[name] = found.get(name, 0) + entry.get("percent", 0)
        return {name: percent for name, percent in found.items() if percent}

    def tags(self) -> dict[str, str]:
        traffic = self.objects["service", SERVICE]["spec"]["traffic"]
        return {entry["tag"]: entry["revisionName"] for entry in traffic if "tag" in entry}

    def status(self) -> Document:
        found = self.objects["rollout", ROLLOUT].get("status", {})
        assert isinstance(found, dict)
        return found

    def _get(self, kind: str, name: str) -> Document | None:
        found = self.objects.get((kind, name))
        return copy.deepcopy(found) if found is not None else None

    def _all(self, kind: str) -> list[Document]:
        return [copy.deepcopy(document) for (of, _), document in self.objects.items() if of == kind]

    def _held(self, kind: str, name: str, version: str) -> Document:
        kept = self.objects[kind, name]
        if kept["metadata"]["resourceVersion"] != version:
            raise ConflictError(f"{kind} {name} was written by somebody else")
        return kept

    def _touch(self, document: Document) -> None:
        document["metadata"]["resourceVersion"] = str(next(self._versions))
