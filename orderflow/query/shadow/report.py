"""The result of a comparison."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from orderflow.query.shadow.cases import described
from orderflow.query.shadow.differences import differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.messaging.judgement import Judgement
    from orderflow.query.clients.questions import Answers
    from orderflow.query.shadow.cases import Case

MAX_ORDERS: Final = 5
MAX_REASONS: Final = 20


class ShadowVerdict(StrEnum):
    FINE = "fine"
    DIFFERENT = "different"
    TOO_FEW = "too_few"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Difference:
    """count is that of events. orders has up to MAX_ORDERS order ids."""

    reason: str
    count: int
    orders: list[str]


@dataclass(frozen=True, slots=True)
class OtherVerdict:
    """An event that the two revisions judge differently. canary and stable: the outcome, and the reasons' codes."""

    order_id: str
    source: str
    id: str
    canary: dict[str, Any]
    stable: dict[str, Any]
    reasons: list[str]


@dataclass(slots=True)
class ShadowReport:
    """compared counts the events that both revisions have judged. failure: why others were not compared."""

    canary: str
    stable: str
    minimum: int = 1
    compared: int = 0
    others: list[OtherVerdict] = field(default_factory=list)
    failure: str = ""

    def add(self, cases: Sequence[Case], answers: Answers) -> None:
        for number, judgement in sorted(answers.judgements.items()):
            self._compare(cases[number], judgement)
        self.failure = self.failure or answers.failure

    def _compare(self, case: Case, stable: Judgement) -> None:
        self.compared += 1
        reasons = differences(case.canary, stable, timed=case.timed)
        if reasons:
            verdicts = described(case.canary), described(stable)
            self.others.append(OtherVerdict(case.order_id, case.source, case.id, *verdicts, list(reasons)))

    @property
    def verdict(self) -> ShadowVerdict:
        if self.others:
            return ShadowVerdict.DIFFERENT
        if self.failure:
            return ShadowVerdict.UNKNOWN
        return ShadowVerdict.TOO_FEW if self.compared < self.minimum else ShadowVerdict.FINE

    @property
    def differences(self) -> list[Difference]:
        """By reason, the most frequent first, at most MAX_REASONS."""
        orders: defaultdict[str, list[str]] = defaultdict(list)
        for other in self.others:
            for reason in other.reasons:
                orders[reason].append(other.order_id)
        counted = sorted(orders.items(), key=lambda each: (-len(each[1]), each[0]))
        return [
            Difference(reason, len(ids), list(dict.fromkeys(ids))[:MAX_ORDERS])
            for reason, ids in counted[:MAX_REASONS]
        ]

    @property
    def sentence(self) -> str:
        count = len(self.others)
        if count:
            first = self.differences[0]
            return (
                f"{self.stable} judges {count} of {self.compared} events of {self.canary} differently; "
                f"most often: {first.reason} ({first.count})."
            )
        if self.failure:
            return f"The judgements of {self.canary} are not compared: {self.failure}."
        if self.compared < self.minimum:
            missing = self.minimum - self.compared
            return f"{self.compared} events of {self.canary} were compared; {missing} more are needed."
        return f"{self.stable} judges {self.compared} of {self.compared} events of {self.canary} alike."

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "compared": self.compared,
            "differences": [asdict(difference) for difference in self.differences],
            "sentence": self.sentence,
        }
