"""What a release in progress does to orders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from orderflow.query.release_judgement import ReleaseQuery
from orderflow.query.store.release_evidence import STAGES

if TYPE_CHECKING:
    from knrollout.cluster.view import RolloutView
    from orderflow.query.release_judgement import Judgement, ReleaseJudge
    from orderflow.query.store.read_model import OrderSummary

MAX_ORDERS: Final = 10


@dataclass(frozen=True)
class ReleaseImpact:
    """The judgement that the release's analyses get, and the latest orders that the canary handled."""

    judgement: Judgement
    orders: list[OrderSummary]


def release_impact(judge: ReleaseJudge, rollout: RolloutView) -> ReleaseImpact | None:
    """None where no release is in progress or was aborted, and for a Service that is no stage."""
    status, stage = rollout.status, rollout.service
    canary, stable = status.canary_revision, status.stable_revision
    if stage not in STAGES or canary is None or stable is None or canary == stable:
        return None
    query = ReleaseQuery(
        canary=canary,
        stable=stable,
        since=status.canary_started_at,
        weight=status.weight or None,
        weight_since=status.weight_changed_at,
    )
    judgement = judge.judge(stage, query)
    handled_from = judgement.since or datetime.now(UTC) - timedelta(hours=query.hours)
    return ReleaseImpact(judgement, judge.reader.orders_handled_by(stage, canary, handled_from, MAX_ORDERS))
