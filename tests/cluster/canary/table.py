"""What the trials found, as a table in Markdown, and what of it must not be."""

from collections.abc import Sequence
from typing import Final

from tests.cluster.canary.releases import GOOD
from tests.cluster.canary.trials import Outcome

_HEAD: Final = (
    "| release | led by | ended | first bad order to weight 0 | orders that met it (deliveries) | orders | lost "
    "| ended wrongly | why |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    return _HEAD + "".join(f"{as_row(outcome)}\n" for outcome in outcomes)


def as_row(outcome: Outcome) -> str:
    seconds = "none" if outcome.seconds is None else f"{outcome.seconds:.0f} s"
    killed = f", {outcome.kills} kills" if outcome.kills else ""
    return (
        f"| {outcome.release} | {outcome.way}{killed} | {outcome.ended} | {seconds} "
        f"| {outcome.met} ({outcome.deliveries}) | {outcome.orders} | {outcome.lost} | {outcome.wrong} "
        f"| {' '.join(outcome.reason.split())} |"
    )


def faults(outcomes: Sequence[Outcome]) -> list[str]:
    """Sentences; a plain rollout is for comparison and promises nothing."""
    found = []
    for outcome in outcomes:
        if outcome.way == "rollout-duration":
            continue
        wanted = "Healthy" if outcome.release == GOOD.name else "Degraded"
        if outcome.ended != wanted:
            found.append(f"{outcome.release}: {outcome.ended}, not {wanted}: {outcome.reason}")
        if outcome.lost:
            found.append(f"{outcome.release}: {outcome.lost} orders lost")
    return found
