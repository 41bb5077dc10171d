"""What the cluster says, as far as a rollout looks at it. Each class reads the API server's own JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from knrollout.api import names

Document = Mapping[str, Any]
FINISHED: Final = frozenset({"Successful", "Failed", "Error", "Inconclusive"})


def moment(text: str | None) -> datetime | None:
    """RFC 3339 as Kubernetes writes it."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _condition(document: Document, name: str) -> Document:
    found = (c for c in document.get("status", {}).get("conditions", ()) if c.get("type") == name)
    return next(found, {})


@dataclass(frozen=True)
class Target:
    """One entry of a Service's traffic. revision is None where it follows the latest one."""

    revision: str | None
    percent: int = 0
    tag: str | None = None
    url: str | None = field(default=None, compare=False)

    @classmethod
    def read(cls, entry: Document) -> Target:
        return cls(entry.get("revisionName"), entry.get("percent") or 0, entry.get("tag"), entry.get("url"))

    def write(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"percent": self.percent, "latestRevision": self.revision is None}
        if self.revision is not None:
            entry["revisionName"] = self.revision
        if self.tag is not None:
            entry["tag"] = self.tag
        return entry


@dataclass(frozen=True)
class Service:
    """settled: Knative has seen the spec as it is now, and latest_created is of it. route_ready: it has seen it, and
    traffic flows as it says."""

    name: str
    resource_version: str
    settled: bool
    route_ready: bool
    route_message: str
    latest_created: str | None
    traffic: tuple[Target, ...]
    actual: tuple[Target, ...]
    split: str | None

    @classmethod
    def read(cls, document: Document) -> Service:
        metadata, status = document["metadata"], document.get("status", {})
        seen = status.get("observedGeneration") == metadata.get("generation")
        # The Service is seen before its Configuration is, and only that names the revision which comes of it.
        outdated = _condition(document, "ConfigurationsReady").get("reason") == "OutOfDate"
        route = _condition(document, "RoutesReady")
        return cls(
            name=metadata["name"],
            resource_version=metadata["resourceVersion"],
            settled=seen and not outdated,
            route_ready=seen and route.get("status") == "True",
            route_message=route.get("message", ""),
            latest_created=status.get("latestCreatedRevisionName"),
            traffic=tuple(map(Target.read, document.get("spec", {}).get("traffic", ()))),
            actual=tuple(map(Target.read, status.get("traffic", ()))),
            split=metadata.get("annotations", {}).get(names.SPLIT_ANNOTATION),
        )


@dataclass(frozen=True)
class Revision:
    """generation counts the Configuration's: the higher, the newer."""

    name: str
    generation: int
    ready: bool
    message: str = ""

    @classmethod
    def read(cls, document: Document) -> Revision:
        metadata, ready = document["metadata"], _condition(document, "Ready")
        return cls(
            name=metadata["name"],
            generation=int(metadata.get("labels", {}).get(names.GENERATION_LABEL, 0)),
            ready=ready.get("status") == "True",
            message=ready.get("message") or ready.get("reason") or "",
        )


@dataclass(frozen=True)
class Metric:
    name: str
    measured: int = 0
    successful: int = 0
    consecutive_errors: int = 0
    message: str = ""
    phase: str = ""
    last: str = ""
    """What was measured last, as the provider gave it."""


@dataclass(frozen=True)
class Run:
    """An AnalysisRun that the rollout owns. metrics are those that count: dry runs are left out."""

    name: str
    attempt: int
    created: datetime
    phase: str
    message: str
    terminated: bool
    metrics: tuple[Metric, ...]

    @property
    def finished(self) -> bool:
        return self.phase in FINISHED

    @property
    def measured(self) -> bool:
        """Every metric has found at least one measurement good, and the last one did not fail to measure."""
        return bool(self.metrics) and all(
            m.successful > 0 and m.consecutive_errors == 0 for m in self.metrics
        )

    @classmethod
    def read(cls, document: Document) -> Run:
        metadata, spec, status = document["metadata"], document["spec"], document.get("status", {})
        created = moment(metadata["creationTimestamp"])
        assert created is not None  # noqa: S101 - the API server sets it on every object
        return cls(
            name=metadata["name"],
            attempt=int(metadata.get("labels", {}).get(names.ATTEMPT_LABEL, 0)),
            created=created,
            phase=status.get("phase", ""),
            message=status.get("message", ""),
            terminated=bool(spec.get("terminate", False)),
            metrics=tuple(_metrics(spec, status)),
        )


def _metrics(spec: Document, status: Document) -> list[Metric]:
    results = {result["name"]: result for result in status.get("metricResults", ())}
    dry = {name for name, result in results.items() if result.get("dryRun")}
    counted = [metric["name"] for metric in spec.get("metrics", ()) if metric["name"] not in dry]
    return [_metric(name, results.get(name, {})) for name in counted]


def _metric(name: str, result: Document) -> Metric:
    measurements: Sequence[Document] = result.get("measurements") or ({},)
    return Metric(
        name,
        measured=result.get("count", 0),
        successful=result.get("successful", 0),
        consecutive_errors=result.get("consecutiveError", 0),
        message=result.get("message", ""),
        phase=result.get("phase", ""),
        last=measurements[-1].get("value", ""),
    )
