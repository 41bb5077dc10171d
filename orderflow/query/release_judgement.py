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
from orderflow.errors import NotFoundError, PoisonError, Reason, TransientError
from orderflow.query.clients import announced_changes, published_answers, refused_requests
from orderflow.query.store.filters import Since  # noqa: TC001 - pydantic reads the annotation
from orderflow.query.store.release_evidence import (
    INTERVAL_SECONDS,
    STAGES,
    is_seldom,
    only_seldom,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from orderflow.domain.release_analysis import Interval, Invariant, Presence, Result
    from orderflow.query.clients.announced_changes import AnnouncedChanges
    from orderflow.query.clients.queue_proxies import QueueProxies
    from orderflow.query.store.reader import Reader

_FULL_WEIGHT: Final = 100

Revision = Annotated[str, StringConstraints(pattern=r"^[a-z][-a-z0-9]{0,62}$")]


class ReleaseQuery(AnalysisSettings):
    """since: when this attempt of the release got its share; both revisions are counted from then. Without it, they are
    counted from the canary's first activity in the last hours.

    weight: the canary's share of the deliveries in percent; with it, the canary has to show the activity of its share.
    weight_since: when that share took effect; without it, since. interval: the seconds of an interval.
    announced_within: the seconds after which a change of track must have its status event in the topic; more than
    KafkaSource waits before it delivers an event again.
    """

    canary: Revision
    stable: Revision
    since: Since | None = None
    hours: Annotated[int, Field(ge=1, le=168)] = 24
    weight: Annotated[int, Field(ge=1, le=_FULL_WEIGHT)] | None = None
    weight_since: Since | None = None
    interval: Annotated[int, Field(ge=1, le=3600)] = INTERVAL_SECONDS
    announced_within: Annotated[int, Field(ge=1, le=3600)] = 120


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


@dataclass(frozen=True)
class _Seen:
    """What Kafka and the queue-proxies show. unknown: why nothing is seen. is_passing: the next look may see it, so
    that the verdict waits for it."""

    outcomes: Sequence[tuple[str, Sequence[Interval]]] = ()
    invariants: Sequence[Invariant] = ()
    unknown: str = ""
    is_passing: bool = False


class ReleaseJudge:
    def __init__(
        self, reader: Reader, proxies: QueueProxies | None, announced: AnnouncedChanges | None
    ) -> None:
        """proxies: None where query has no Prometheus. announced: None where it has no Kafka, as in some tests."""
        self.reader = reader
        self._proxies = proxies
        self._announced = announced

    def judge(self, stage: str, query: ReleaseQuery) -> Judgement:
        """Raises NotFoundError for an unknown stage, PoisonError where a revision is compared with itself."""
        check_stage(stage)
        if query.canary == query.stable:
            text = "this is the stable revision as well; a revision is not compared with itself"
            raise PoisonError(Reason("same_revision", "canary", text))
        evidence = self.reader.release_evidence(
            stage, query.canary, query.stable, query.since, hours=query.hours, seconds=query.interval
        )
        counted_from = evidence.since or evidence.now - timedelta(hours=query.hours)
        seen = self._seen(stage, query, counted_from)
        outcomes = [*evidence.outcomes, *seen.outcomes]
        shown = None
        if evidence.outcomes:
            shown = self._presence(stage, query, evidence.since, len(outcomes))
        comparisons = compare(outcomes, query, other_tests=0 if shown is None else 1, weight=query.weight)
        invariants = [
            *self.reader.release_invariants(stage, query.canary, counted_from),
            *seen.invariants,
        ]
        results: list[Result] = [*invariants, *comparisons]
        if shown is not None:
            results.append(shown)
        waited_for = [result for result in results if not _is_dispensable(stage, result)]
        verdict = overall(waited_for) if waited_for else Verdict.FINE
        if seen.is_passing and verdict is Verdict.FINE:
            verdict = Verdict.TOO_FEW
        text = (
            sentence(waited_for, evidence.since, evidence.now).replace("_", " ")
            if waited_for
            else f"fine: nothing tells this revision of {stage} from the stable one"
        )
        return Judgement(
            verdict=verdict,
            harm=harm(results),
            sentence=f"{text}; {seen.unknown}" if seen.unknown else text,
            since=evidence.since,
            outcomes=comparisons,
            invariants=invariants,
            presence=shown,
        )

    def _seen(self, stage: str, query: ReleaseQuery, since: datetime) -> _Seen:
        if stage == "track" and self._announced is not None:
            return self._announcements(self._announced, query, since)
        if stage not in published_answers.STAGES and stage not in refused_requests.STAGES:
            return _Seen()
        if self._proxies is None:
            return _Seen(unknown=published_answers.UNKNOWN)
        try:
            return _Seen(
                self._proxies.outcomes(stage, query.canary, query.stable, since),
                self._proxies.invariants(stage, query.canary, since),
            )
        except TransientError as error:
            return _Seen(unknown=str(error), is_passing=True)

    def _announcements(self, announced: AnnouncedChanges, query: ReleaseQuery, since: datetime) -> _Seen:
        changes = self.reader.written_changes(
            query.canary, since, timedelta(seconds=query.announced_within), announced_changes.MAX_CHANGES
        )
        try:
            return _Seen(invariants=announced.invariants(*changes))
        except TransientError as error:
            return _Seen(unknown=str(error), is_passing=True)

    def _presence(
        self, stage: str, query: ReleaseQuery, since: datetime | None, outcomes: int
    ) -> Presence | None:
        if query.weight is None or query.weight == _FULL_WEIGHT:
            return None
        counted_from = query.weight_since or since
        canary, stable = 0, 0
        if counted_from is not None:
            canary, stable = self.reader.release_activity(stage, query.canary, query.stable, counted_from)
        return presence(canary, stable, query.weight, query, other_tests=outcomes)


def _is_dispensable(stage: str, result: Result) -> bool:
    """Whether the verdict does not wait for more events of this kind: a healthy shop may never have them."""
    if result.verdict is not Verdict.TOO_FEW:
        return False
    if isinstance(result, Comparison):
        return is_seldom(stage, result.outcome)
    return only_seldom(stage)
