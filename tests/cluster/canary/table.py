"""The outcomes of the trials as a table in Markdown, and their faults as sentences."""

from collections.abc import Sequence
from typing import Final

from tests.cluster.canary.releases import GOOD, GOOD_TRACK
from tests.cluster.canary.trials import Outcome

_GOOD: Final = frozenset({GOOD.name, GOOD_TRACK.name})
_HEAD: Final = (
    "| release | led by | ended | first bad order to weight 0 | orders that met it (deliveries) | orders | sent again "
    "| lost | ended wrongly | why |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    return _HEAD + "".join(f"{as_row(outcome)}\n" for outcome in outcomes)


def as_row(outcome: Outcome) -> str:
    seconds = "none" if outcome.seconds is None else f"{outcome.seconds:.0f} s"
    killed = f", {outcome.kills} kills" if outcome.kills else ""
    return (
        f"| {outcome.release} | {outcome.method}{killed} | {outcome.phase} | {seconds} "
        f"| {outcome.orders_at_revision} ({outcome.deliveries}) | {outcome.orders} | {outcome.repaired} "
        f"| {outcome.lost} | {outcome.wrong_endings} | {' '.join(outcome.reason.split())} |"
    )


def faults(outcomes: Sequence[Outcome]) -> list[str]:
    """The faults as sentences. A plain rollout is only for comparison, so it has no faults."""
    sentences = []
    for outcome in outcomes:
        if outcome.method == "rollout-duration":
            continue
        expected_phase = "Healthy" if outcome.release in _GOOD else "Degraded"
        if outcome.phase != expected_phase:
            sentences.append(f"{outcome.release}: {outcome.phase}, not {expected_phase}: {outcome.reason}")
        if outcome.lost:
            sentences.append(f"{outcome.release}: {outcome.lost} orders lost")
    return sentences
