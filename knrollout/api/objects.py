"""Objects of the cluster, as far as a rollout uses them. Each class is parsed from the API server's JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from knrollout.api import names

Document = Mapping[str, Any]
_MAX_SENTENCES: Final = 600
_SIDECAR: Final = "queue-proxy"
FINISHED_PHASES: Final = frozenset({"Successful", "Failed", "Error", "Inconclusive"})


def _condition(document: Document, name: str) -> Document:
    conditions = document.get("status", {}).get("conditions", ())
    return next((condition for condition in conditions if condition.get("type") == name), {})


@dataclass(frozen=True)
class TrafficTarget:
    """One entry of a Service's traffic. revision is None where the entry follows the latest revision."""

    revision: str | None
    percent: int = 0
    tag: str | None = None
    url: str | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, entry: Document) -> TrafficTarget:
        return cls(entry.get("revisionName"), entry.get("percent") or 0, entry.get("tag"), entry.get("url"))

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"percent": self.percent, "latestRevision": self.revision is None}
        if self.revision is not None:
            entry["revisionName"] = self.revision
        if self.tag is not None:
            entry["tag"] = self.tag
        return entry


@dataclass(frozen=True)
class Service:
    """settled: Knative has observed the current spec, and latest_created_revision belongs to it.

    route_ready: Knative has observed the current spec, and traffic flows accordingly.
    """

    name: str
    resource_version: str
    settled: bool
    route_ready: bool
    route_message: str
    latest_created_revision: str | None
    spec_traffic: tuple[TrafficTarget, ...]
    status_traffic: tuple[TrafficTarget, ...]
    split_annotation: str | None

    @classmethod
    def parse(cls, document: Document) -> Service:
        metadata, status = document["metadata"], document.get("status", {})
        observed = status.get("observedGeneration") == metadata.get("generation")
        # Knative observes the Service before its Configuration, and only the Configuration names the new revision.
        outdated = _condition(document, "ConfigurationsReady").get("reason") == "OutOfDate"
        route = _condition(document, "RoutesReady")
        return cls(
            name=metadata["name"],
            resource_version=metadata["resourceVersion"],
            settled=observed and not outdated,
            route_ready=observed and route.get("status") == "True",
            route_message=route.get("message", ""),
            latest_created_revision=status.get("latestCreatedRevisionName"),
            spec_traffic=tuple(map(TrafficTarget.parse, document.get("spec", {}).get("traffic", ()))),
            status_traffic=tuple(map(TrafficTarget.parse, status.get("traffic", ()))),
            split_annotation=metadata.get("annotations", {}).get(names.SPLIT_ANNOTATION),
        )


@dataclass(frozen=True)
class Revision:
    """generation is the Configuration's: a higher one is newer."""

    name: str
    generation: int
    ready: bool
    message: str = ""
    failed: bool = False
    """Knative says that it is not ready, and not only that it does not know."""

    @classmethod
    def parse(cls, document: Document) -> Revision:
        metadata, ready = document["metadata"], _condition(document, "Ready")
        return cls(
            name=metadata["name"],
            generation=int(metadata.get("labels", {}).get(names.GENERATION_LABEL, 0)),
            ready=ready.get("status") == "True",
            message=ready.get("message") or ready.get("reason") or "",
            failed=ready.get("status") == "False",
        )


@dataclass(frozen=True)
class ContainerEnd:
    """A container of a revision's pod that ended and was started again, or will be. reason is the kubelet's, such as
    OOMKilled."""

    revision: str
    pod: str
    reason: str
    at: datetime

    @classmethod
    def parse_pod(cls, document: Document) -> list[ContainerEnd]:
        """The last end of each container. Empty for a pod that is being deleted: its containers have to end."""
        metadata = document["metadata"]
        revision = metadata.get("labels", {}).get(names.REVISION_OF_POD_LABEL, "")
        if metadata.get("deletionTimestamp"):
            return []
        return [
            cls(revision, metadata["name"], ended.get("reason") or "Error", _moment(ended["finishedAt"]))
            for status in document.get("status", {}).get("containerStatuses", ())
            if status.get("name") != _SIDECAR
            for state in (status.get("state", {}), status.get("lastState", {}))
            if (ended := state.get("terminated")) and ended.get("finishedAt")
        ]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass(frozen=True)
class MetricResult:
    """last is the value of the last measurement, as the metric's provider returned it."""

    name: str
    measured: int = 0
    successful: int = 0
    failed: int = 0
    consecutive_errors: int = 0
    message: str = ""
    phase: str = ""
    last: str = ""

    @property
    def value(self) -> Document:
        """The last measurement where it is a JSON object; otherwise empty."""
        try:
            value = json.loads(self.last)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def shows_harm(self) -> bool:
        return self.failed > 0 or self.value.get("harm") is True

    @property
    def finding(self) -> str:
        """What the last measurement says: its own sentence, or its value."""
        return str(self.value.get("sentence") or self.last)

    @property
    def sentence(self) -> str:
        return f"{self.name}: {self.finding}" if self.finding else ""


@dataclass(frozen=True)
class AnalysisRun:
    """An AnalysisRun of the rollout. metrics are those that count: dry runs are left out.

    revision: the one that it analyses.
    """

    name: str
    revision: str
    attempt: int
    created: datetime
    phase: str
    message: str
    terminated: bool
    metrics: tuple[MetricResult, ...]

    @property
    def finished(self) -> bool:
        return self.phase in FINISHED_PHASES

    @property
    def measured(self) -> bool:
        """Every metric has a successful measurement, and its last measurement was not an error."""
        return bool(self.metrics) and all(
            metric.successful > 0 and metric.consecutive_errors == 0 for metric in self.metrics
        )

    @property
    def shows_harm(self) -> bool:
        return any(metric.shows_harm for metric in self.metrics)

    @property
    def sentences(self) -> str:
        """The last measurements of the metrics that decided about the phase, for people."""
        deciding = [metric for metric in self.metrics if metric.phase == self.phase] or self.metrics
        text = "; ".join(metric.sentence for metric in deciding if metric.sentence)
        return text if len(text) <= _MAX_SENTENCES else text[: _MAX_SENTENCES - 3] + "..."

    @classmethod
    def parse(cls, document: Document) -> AnalysisRun:
        metadata, spec, status = document["metadata"], document["spec"], document.get("status", {})
        return cls(
            name=metadata["name"],
            revision=metadata.get("labels", {}).get(names.REVISION_LABEL, ""),
            attempt=int(metadata.get("labels", {}).get(names.ATTEMPT_LABEL, 0)),
            created=_moment(metadata["creationTimestamp"]),
            phase=status.get("phase", ""),
            message=status.get("message", ""),
            terminated=bool(spec.get("terminate", False)),
            metrics=tuple(_metrics(spec, status)),
        )


def _metrics(spec: Document, status: Document) -> list[MetricResult]:
    results = {result["name"]: result for result in status.get("metricResults", ())}
    dry_runs = {name for name, result in results.items() if result.get("dryRun")}
    counted = [metric["name"] for metric in spec.get("metrics", ()) if metric["name"] not in dry_runs]
    return [_metric(name, results.get(name, {})) for name in counted]


def _metric(name: str, result: Document) -> MetricResult:
    measurements: Sequence[Document] = result.get("measurements") or ({},)
    return MetricResult(
        name,
        measured=result.get("count", 0),
        successful=result.get("successful", 0),
        failed=result.get("failed", 0),
        consecutive_errors=result.get("consecutiveError", 0),
        message=result.get("message", ""),
        phase=result.get("phase", ""),
        last=measurements[-1].get("value", ""),
    )
