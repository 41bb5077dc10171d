"""What the database knows, as Prometheus reads it. Gauges: they count rows, and rows can go."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.deadlines import SEQUENCE_GAP, WAITING_EXPIRES
from orderflow.query.store.filters import STUCK
from orderflow.query.store.read_model import Need

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from orderflow.query.store.read_model import Outcomes

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[dict[str, str], int]


def text(outcomes: Outcomes, needs: dict[str, Need]) -> str:
    families: list[tuple[str, str, Iterable[Sample]]] = [
        ("orders", "Orders by status.", [({"status": name}, n) for name, n in outcomes.status.items()]),
        (
            "orders_payment",
            "Placed orders by state of payment.",
            [({"payment": name}, n) for name, n in outcomes.payment.items()],
        ),
        (
            "ledger_events",
            "Originating events by what became of them and the revision that decided so.",
            _summed(("kind", "outcome", "revision"), outcomes.ledger),
        ),
        (
            "stage_outcomes",
            "What the stages made of events, by the revision that did it.",
            _by_stage(outcomes),
        ),
        (
            "parked_events",
            "Parked events by stage, reason and what operators did with them.",
            _summed(("stage", "code", "state"), outcomes.parked),
        ),
        ("waiting_events", "Events that wait for what must come before them.", [({}, outcomes.waiting)]),
        (
            "notifications",
            "Notifications by channel and state.",
            _summed(("channel", "state"), outcomes.notifications),
        ),
        (
            "needs_a_hand",
            "What operators have to look at, by reason.",
            [({"need": need.name}, need.count) for need in needs.values()],
        ),
    ]
    return "".join(
        line for name, about, samples in families for line in _family(f"orderflow_{name}", about, samples)
    )


def _summed(labels: tuple[str, ...], counts: Sequence[Any]) -> list[Sample]:
    """Counts that are finer than the labels, added up."""
    found: Counter[tuple[str, ...]] = Counter()
    for each in counts:
        found[tuple(getattr(each, label) for label in labels)] += each.count
    return [(dict(zip(labels, values, strict=True)), count) for values, count in found.items()]


def _by_stage(outcomes: Outcomes) -> list[Sample]:
    """Validate's verdicts, track's outcomes, notify's notifications, and what each has parked: track's in the ledger,
    whatever else where it lies."""
    found: Counter[tuple[str, str, str]] = Counter()
    for entry in outcomes.ledger:
        found["track", entry.outcome, entry.revision] += entry.count
        if entry.validated_by:
            found["validate", entry.kind if entry.judged else "passed", entry.validated_by] += entry.count
    for notified in outcomes.notifications:
        found["notify", notified.state, notified.revision] += notified.count
    for letters in outcomes.parked:
        if letters.stage != "track":
            found[letters.stage, "parked", letters.revision] += letters.count
    labels = ("stage", "outcome", "revision")
    return [(dict(zip(labels, values, strict=True)), count) for values, count in sorted(found.items())]


def audit(run: dict[str, Any] | None) -> str:
    """The last run that ended, as the row in audit_runs has it; nothing where there has been none."""
    if run is None:
        return ""
    report, complete = run["report"], int(run["state"] == "complete")
    families: list[tuple[str, str, Iterable[Sample]]] = [
        (
            "finished_timestamp_seconds",
            "When the last audit ended.",
            [({}, int(run["finished_at"].timestamp()))],
        ),
        (
            "complete",
            "Did it find nothing missing and judge everything? 1 or 0.",
            [({}, complete)],
        ),
        ("missing_events", "Events that it found missing.", [({}, report["missing_count"])]),
        (
            "remedies",
            "What it did about them.",
            [({"remedy": remedy}, count) for remedy, count in report["remedies"].items()],
        ),
        (
            "records",
            "Records of the topics' logs by what became of them.",
            [
                ({"topic": topic, "fate": fate}, count)
                for topic, counts in report["topics"].items()
                for fate, count in counts.items()
                if fate != "read"
            ],
        ),
    ]
    return "".join(
        line
        for name, about, samples in families
        for line in _family(f"orderflow_audit_{name}", about, samples)
    )


def limits(alerts: dict[str, Need], now: datetime) -> str:
    """What is over the shop's limits. Every code has a sample: one that is missing would look like none."""
    none = Need("", 0, None)
    stuck = [(code, alerts.get(code, none)) for code in STUCK]
    gaps = alerts.get(SEQUENCE_GAP, none)
    expiring = alerts.get(WAITING_EXPIRES, none)
    families: list[tuple[str, str, Iterable[Sample]]] = [
        (
            "orders_stuck",
            "Orders over the shop's limit for where they stand, by the alert's code.",
            [({"code": code}, need.count) for code, need in stuck],
        ),
        (
            "orders_stuck_oldest_seconds",
            "For how long the order that is stuck longest has stood where it does.",
            [({"code": code}, _age(need, now)) for code, need in stuck],
        ),
        ("sequence_gaps", "Orders with gaps in a producer's sequence.", [({}, gaps.count)]),
        ("sequence_gaps_oldest_seconds", "For how long the oldest has been there.", [({}, _age(gaps, now))]),
        ("waiting_expires", "Orders of which a waiting event is parked soon.", [({}, expiring.count)]),
    ]
    return "".join(
        line for name, about, samples in families for line in _family(f"orderflow_{name}", about, samples)
    )


def _age(need: Need, now: datetime) -> int:
    return max(int((now - need.oldest).total_seconds()), 0) if need.oldest else 0


def _family(name: str, about: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP {name} {about}\n# TYPE {name} gauge\n"
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{pairs}}} {value}\n" if pairs else f"{name} {value}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
