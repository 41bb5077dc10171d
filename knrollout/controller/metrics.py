"""The controller's own metrics, as Prometheus scrapes them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, get_args

from prometheus_client import Counter, Gauge, Histogram

from knrollout.api.status import Phase

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from knrollout.decide.plan import Plan

PHASES: Final = get_args(Phase)
_WHOSE: Final = ("namespace", "rollout")


class Measures:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.phase = Gauge(
            "knrollout_phase", "1 for the phase that holds", (*_WHOSE, "phase"), registry=registry
        )
        self.weight = Gauge("knrollout_weight", "percent of the canary", _WHOSE, registry=registry)
        self.notices = Counter(
            "knrollout_notices",
            "what happened, by reason: Promoted, Aborted ...",
            (*_WHOSE, "reason"),
            registry=registry,
        )
        self.rounds = Histogram("knrollout_round_seconds", "reading, deciding and writing", registry=registry)
        self.troubles = Counter("knrollout_troubles", "rounds that did not end", ("kind",), registry=registry)

    def note(self, namespace: str, name: str, plan: Plan) -> None:
        for phase in PHASES:
            self.phase.labels(namespace, name, phase).set(phase == plan.status.phase)
        self.weight.labels(namespace, name).set(plan.status.weight if plan.status.active else 0)
        for notice in plan.notices:
            self.notices.labels(namespace, name, notice.reason).inc()

    def forget(self, namespace: str, name: str) -> None:
        with suppress(KeyError):  # a rollout that was never led to an end of a round
            for phase in PHASES:
                self.phase.remove(namespace, name, phase)
            self.weight.remove(namespace, name)
