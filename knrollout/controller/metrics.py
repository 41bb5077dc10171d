"""The controller's Prometheus metrics."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, get_args

from prometheus_client import Counter, Gauge, Histogram

from knrollout.api.status import Phase

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from knrollout.decide.plan import Plan

PHASES: Final = get_args(Phase)
_ROLLOUT_LABELS: Final = ("namespace", "rollout")


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.phase = Gauge(
            "knrollout_phase", "1 for the current phase", (*_ROLLOUT_LABELS, "phase"), registry=registry
        )
        self.weight = Gauge(
            "knrollout_weight", "percentage of the traffic to the canary", _ROLLOUT_LABELS, registry=registry
        )
        self.events = Counter(
            "knrollout_notices",
            "Kubernetes events by reason: Promoted, Aborted ...",
            (*_ROLLOUT_LABELS, "reason"),
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "knrollout_round_seconds", "time to read, decide and write", registry=registry
        )
        self.errors = Counter(
            "knrollout_troubles", "reconciliations that failed", ("kind",), registry=registry
        )

    def record(self, namespace: str, name: str, plan: Plan) -> None:
        for phase in PHASES:
            self.phase.labels(namespace, name, phase).set(phase == plan.status.phase)
        self.weight.labels(namespace, name).set(plan.status.weight if plan.status.active else 0)
        for event in plan.events:
            self.events.labels(namespace, name, event.reason).inc()

    def remove(self, namespace: str, name: str) -> None:
        with suppress(KeyError):  # no reconciliation of this rollout has succeeded yet
            for phase in PHASES:
                self.phase.remove(namespace, name, phase)
            self.weight.remove(namespace, name)
