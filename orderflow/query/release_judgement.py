"""The judgement of a release: what the analyses get and what the page of the release shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, StringConstraints

from orderflow.domain.release_analysis import (
    AnalysisSettings,
    Comparison,
    Verdict,
    compare,
    harm,
    overall,
    presence,
    sentence,
)
from orderflow.errors import NotFoundError, PoisonError, Reason
from orderflow.query.store.filters import Since  # noqa: TC001 - pydantic reads the annotation
from orderflow.query.store.release_evidence import (
    INTERVAL_SECONDS,
    STAGES,
    is_seldom,
    only_seldom,
)

if TYPE_CHECKING:
    from datetime import datetime

    from orderflow.domain.release_analysis import Invariant, Presence, Result
    from orderflow.query.store.reader import Reader

_FULL_WEIGHT: Final = 100

Revision = Annotated[str, StringConstraints(pattern=r"^[a-z][-a-z0-9]{0,62}$")]


class ReleaseQuery(AnalysisSettings):
    """since: when this attempt of the release got its share; both revisions are counted from then. Without it, they are
    counted from the canary's first activity in the last hours.

    weight: the canary's share of the deliveries in percent; with it, the canary has to show the activity of its share.
    weight_since: when that share took effect; without it, since. interval: the seconds of an interval.
    """

    canary: Revision
    stable: Revision
    since: Since | None = None
    hours: Annotated[int, Field(ge=1, le=168)] = 24
    weight: Annotated[int, Field(ge=1, le=_FULL_WEIGHT)] | None = None
    weight_since: Since | None = None
    interval: Annotated[int, Field(ge=1, le=3600)] = INTERVAL_SECONDS


@dataclass(frozen=True)
class Judgement:
    """since: from when both revisions are counted; None where the canary has shown no activity. presence: None where
    the canary's share is not known, or where stable has none."""

    verdict: Verdict
    harm: bool
    sentence: str
    since: datetime | None
    outcomes: list[Comparison]
    invariants: list[Invariant]
    presence: Presence | None

    def as_dict(self) -> dict[str, Any]:
        """As the JSON of the API has it."""
        invariants = [
            {"name": each.name, "count": each.count, "verdict": each.verdict} for each in self.invariants
        ]
        return {
            "verdict": self.verdict,
            "harm": self.harm,
            "sentence": self.sentence,
            "since": self.since,
            "outcomes": self.outcomes,
            "invariants": invariants,
            "presence": self.presence,
        }


def check_stage(stage: str) -> None:
    """Raises NotFoundError, which names the known stages, for another one."""
    if stage not in STAGES:
        raise NotFoundError(f"the stage is unknown; known are {', '.join(STAGES)}")


def judge(reader: Reader, stage: str, query: ReleaseQuery) -> Judgement:
    """Raises NotFoundError for an unknown stage, PoisonError where a revision is compared with itself."""
    check_stage(stage)
    if query.canary == query.stable:
        text = "this is the stable revision as well; a revision is not compared with itself"
        raise PoisonError(Reason("same_revision", "canary", text))
    evidence = reader.release_evidence(
        stage, query.canary, query.stable, query.since, hours=query.hours, seconds=query.interval
    )
    shown = _presence(reader, stage, query, evidence.since, len(evidence.outcomes))
    comparisons = compare(
        evidence.outcomes, query, other_tests=0 if shown is None else 1, weight=query.weight
    )
    counted_from = evidence.since or evidence.now - timedelta(hours=query.hours)
    invariants = reader.release_invariants(stage, query.canary, counted_from)
    results: list[Result] = [*invariants, *comparisons]
    if shown is not None:
        results.append(shown)
    waited_for = [result for result in results if not _is_dispensable(stage, result)]
    return Judgement(
        verdict=overall(waited_for) if waited_for else Verdict.FINE,
        harm=harm(results),
        sentence=sentence(waited_for, evidence.since, evidence.now).replace("_", " ")
        if waited_for
        else f"fine: nothing in the database tells this revision of {stage} from the stable one",
        since=evidence.since,
        outcomes=comparisons,
        invariants=invariants,
        presence=shown,
    )


def _is_dispensable(stage: str, result: Result) -> bool:
    """Whether the verdict does not wait for more events of this kind: a healthy shop may never have them."""
    if result.verdict is not Verdict.TOO_FEW:
        return False
    if isinstance(result, Comparison):
        return is_seldom(stage, result.outcome)
    return only_seldom(stage)


def _presence(
    reader: Reader, stage: str, query: ReleaseQuery, since: datetime | None, outcomes: int
) -> Presence | None:
    """None for a stage without outcomes, too: it leaves nothing that could be counted."""
    if query.weight is None or query.weight == _FULL_WEIGHT or not outcomes:
        return None
    counted_from = query.weight_since or since
    canary, stable = 0, 0
    if counted_from is not None:
        canary, stable = reader.release_activity(stage, query.canary, query.stable, counted_from)
    return presence(canary, stable, query.weight, query, other_tests=outcomes)
