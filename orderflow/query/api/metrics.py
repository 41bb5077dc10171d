"""What the database knows, in Prometheus' text format. All metrics are gauges: they count rows, and rows can be
deleted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.attention import STUCK_CODES
from orderflow.domain.deadlines import SEQUENCE_GAP, WAITING_EXPIRES
from orderflow.messaging.parked_event import TOPIC_OF
from orderflow.query.store.statistics import Need

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from orderflow.query.store.places import Unaccounted
    from orderflow.query.store.statistics import Outcomes

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[dict[str, str], int]
"""Labels and value."""
Family = tuple[str, str, "Iterable[Sample]"]
"""Name without its prefix, help text, samples."""


def of_outcomes(outcomes: Outcomes, needs: dict[str, Need]) -> str:
    return _text(
        "orderflow",
        [
            ("orders", "Orders by status.", [({"status": name}, n) for name, n in outcomes.status.items()]),
            (
                "orders_payment",
                "Placed orders by state of payment.",
                [({"payment": name}, n) for name, n in outcomes.payment.items()],
            ),
            (
                "ledger_events",
                "Originating events by outcome and by the revision that decided.",
                _sums(("kind", "outcome", "revision"), outcomes.ledger),
            ),
            (
                "stage_outcomes",
                "Outcomes of events per stage, by the revision that handled them.",
                _by_stage(outcomes),
            ),
            (
                "parked_events",
                "Parked events by stage, reason and state.",
                _sums(("stage", "code", "state"), outcomes.parked),
            ),
            ("waiting_events", "Events that wait for an earlier event.", [({}, outcomes.waiting)]),
            (
                "notifications",
                "Notifications by channel and state.",
                _sums(("channel", "state"), outcomes.notifications),
            ),
            (
                "needs_a_hand",
                "Orders and events that need attention, by reason.",
                [({"need": need.name}, need.count) for need in needs.values()],
            ),
        ],
    )


def _sums(labels: tuple[str, ...], counts: Sequence[Any]) -> list[Sample]:
    """Adds up counts that have more attributes than the labels."""
    sums: Counter[tuple[str, ...]] = Counter()
    for each in counts:
        sums[tuple(getattr(each, label) for label in labels)] += each.count
    return [(dict(zip(labels, values, strict=True)), count) for values, count in sums.items()]


def _by_stage(outcomes: Outcomes) -> list[Sample]:
    """Validate's verdicts, track's outcomes, notify's notifications, and the events that each stage parked. Events that
    track parked are in the ledger, those of the other stages are not."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for entry in outcomes.ledger:
        counts["track", entry.outcome, entry.revision] += entry.count
        if entry.validated_by:
            counts["validate", entry.kind if entry.judged else "passed", entry.validated_by] += entry.count
    for notifications in outcomes.notifications:
        counts["notify", notifications.state, notifications.revision] += notifications.count
    for parked in outcomes.parked:
        if parked.stage != "track":
            counts[parked.stage, "parked", parked.revision] += parked.count
    labels = ("stage", "outcome", "revision")
    return [(dict(zip(labels, values, strict=True)), count) for values, count in sorted(counts.items())]


def of_audit(run: dict[str, Any] | None) -> str:
    """The last finished run, a row of audit_runs; no metrics where there is none."""
    if run is None:
        return ""
    report, complete = run["report"], int(run["state"] == "complete")
    return _text(
        "orderflow_audit",
        [
            (
                "finished_timestamp_seconds",
                "When the last audit finished.",
                [({}, int(run["finished_at"].timestamp()))],
            ),
            (
                "complete",
                "1 if the audit found nothing missing and judged everything, else 0.",
                [({}, complete)],
            ),
            ("missing_events", "Events that the audit found missing.", [({}, report["missing_count"])]),
            (
                "remedies",
                "What the audit did about missing events.",
                [({"remedy": remedy}, count) for remedy, count in report["remedies"].items()],
            ),
            (
                "records",
                "Records of the topics' logs by what became of them.",
                [
                    ({"topic": topic, "fate": fate}, count)
                    for topic, counts in report["topics"].items()
                    for fate, count in counts.items()
                    if fate != "judged"
                ],
            ),
        ],
    )


def of_places(unaccounted: Sequence[Unaccounted]) -> str:
    """Every stage has a sample: a missing sample would look the same as no data."""
    counts = dict.fromkeys(TOPIC_OF.items(), 0) | {
        (each.stage, each.topic): each.count for each in unaccounted
    }
    return _text(
        "orderflow",
        [
            (
                "unaccounted_records",
                "Records since the last audit that are not handled while a later one of their partition is.",
                [({"stage": stage, "topic": topic}, count) for (stage, topic), count in counts.items()],
            )
        ],
    )


def of_alerts(alerts: dict[str, Need], now: datetime) -> str:
    """Every code has a sample, 0 where no order has the alert: a missing sample would look the same as no data."""
    no_orders = Need("", 0, None)
    stuck = [(code, alerts.get(code, no_orders)) for code in STUCK_CODES]
    gaps = alerts.get(SEQUENCE_GAP, no_orders)
    expiring = alerts.get(WAITING_EXPIRES, no_orders)
    return _text(
        "orderflow",
        [
            (
                "orders_stuck",
                "Orders that exceed the shop's limit for their state, by the alert's code.",
                [({"code": code}, need.count) for code, need in stuck],
            ),
            (
                "orders_stuck_oldest_seconds",
                "For how long the order that has been stuck longest has been in its state.",
                [({"code": code}, _age(need, now)) for code, need in stuck],
            ),
            ("sequence_gaps", "Orders with gaps in a producer's sequence.", [({}, gaps.count)]),
            ("sequence_gaps_oldest_seconds", "The age of the oldest such gap.", [({}, _age(gaps, now))]),
            ("waiting_expires", "Orders with a waiting event that is parked soon.", [({}, expiring.count)]),
        ],
    )


def _age(need: Need, now: datetime) -> int:
    return max(int((now - need.oldest).total_seconds()), 0) if need.oldest else 0


def _text(prefix: str, families: Sequence[Family]) -> str:
    return "".join(
        line
        for name, help_text, samples in families
        for line in _lines(f"{prefix}_{name}", help_text, samples)
    )


def _lines(name: str, help_text: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP {name} {help_text}\n# TYPE {name} gauge\n"
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{pairs}}} {value}\n" if pairs else f"{name} {value}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
