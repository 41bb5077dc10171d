"""Objects of the cluster, as far as a rollout uses them. Each class is parsed from the API server's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from knrollout.api import names

Document = Mapping[str, Any]
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

    @classmethod
    def parse(cls, document: Document) -> Revision:
        metadata, ready = document["metadata"], _condition(document, "Ready")
        return cls(
            name=metadata["name"],
            generation=int(metadata.get("labels", {}).get(names.GENERATION_LABEL, 0)),
            ready=ready.get("status") == "True",
            message=ready.get("message") or ready.get("reason") or "",
        )


@dataclass(frozen=True)
class MetricResult:
    """last is the value of the last measurement, as the metric's provider returned it."""

    name: str
    measured: int = 0
    successful: int = 0
    consecutive_errors: int = 0
    message: str = ""
    phase: str = ""
    last: str = ""


@dataclass(frozen=True)
class AnalysisRun:
    """An AnalysisRun of the rollout. metrics are those that count: dry runs are left out."""

    name: str
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

    @classmethod
    def parse(cls, document: Document) -> AnalysisRun:
        metadata, spec, status = document["metadata"], document["spec"], document.get("status", {})
        return cls(
            name=metadata["name"],
            attempt=int(metadata.get("labels", {}).get(names.ATTEMPT_LABEL, 0)),
            created=datetime.fromisoformat(metadata["creationTimestamp"]).astimezone(UTC),
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
        consecutive_errors=result.get("consecutiveError", 0),
        message=result.get("message", ""),
        phase=result.get("phase", ""),
        last=measurements[-1].get("value", ""),
    )
