"""What a release in progress does to orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderflow.domain.release_analysis import AnalysisSettings, Interval, compare, overall
from orderflow.query.store.release_evidence import STAGES

if TYPE_CHECKING:
    from knrollout.cluster.view import RolloutView
    from orderflow.domain.release_analysis import Comparison, Verdict
    from orderflow.query.store.read_model import OrderSummary
    from orderflow.query.store.reader import Reader

HOURS: Final = 24
MAX_ORDERS: Final = 10


@dataclass(frozen=True)
class ReleaseImpact:
    """The outcomes at the canary compared with the stable revision, and the latest orders that the canary handled."""

    verdict: Verdict
    outcomes: list[Comparison]
    orders: list[OrderSummary]


def release_impact(reader: Reader, rollout: RolloutView) -> ReleaseImpact | None:
    """None where no release is in progress or was aborted, and for stages that do not decide about orders."""
    status, stage = rollout.status, rollout.service
    canary, stable = status.canary_revision, status.stable_revision
    if stage not in STAGES or canary is None or stable is None or canary == stable:
        return None
    evidence = reader.release_outcomes(stage, canary, stable, HOURS)
    counts = [(name, [Interval(canary, stable)]) for name, canary, stable in evidence.outcomes]
    outcomes = compare(counts, AnalysisSettings())
    orders = reader.orders_handled_by(stage, canary, HOURS, MAX_ORDERS)
    return ReleaseImpact(overall(outcomes), outcomes, orders)
