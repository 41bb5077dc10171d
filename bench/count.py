"""Counts lost and duplicated events. Each function returns a list of faults; a run with any fault is void."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

from orderflow.messaging import topics
from orderflow.messaging.cloudevent import derived_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from bench.lab import Lab, Offsets
    from bench.workload import Workload

_HISTORY_FAULTS = """
SELECT count(*) FROM orders o
LEFT JOIN LATERAL (
    SELECT count(*) AS rows, max(version) AS last, string_agg(kind, ' ' ORDER BY version) AS kinds
    FROM history h WHERE h.order_id = o.order_id
) h ON true
WHERE o.version <> {events} OR o.lock <> {events} OR h.rows <> {events} OR h.last <> {events}
   OR h.kinds <> '{kinds}' OR o.status <> '{status}' OR o.payment <> '{payment}'
"""


def tracked(lab: Lab, work: Workload, start: Offsets) -> list[str]:
    """Checks that the ledger, the orders, their history and the announcements since start have each event once."""
    faults: list[str] = []
    per_order = work.size // work.orders
    counts = lab.query_row("SELECT count(*), count(*) FILTER (WHERE outcome = 'applied') FROM ledger")
    _expect(faults, "ledger rows", counts[0], work.size)
    _expect(faults, "applied", counts[1], work.size)
    _expect(faults, "orders", lab.query_row("SELECT count(*) FROM orders")[0], work.orders)
    _expect(faults, "history rows", lab.query_row("SELECT count(*) FROM history")[0], work.size)
    _expect(faults, "waiting", lab.query_row("SELECT count(*) FROM waiting")[0], 0)
    kinds = ("accepted", "paid", "shipped", "delivered")[:per_order]
    query = _HISTORY_FAULTS.format(
        events=per_order,
        kinds=" ".join(kinds),
        status={1: "accepted", 2: "accepted", 3: "shipped"}.get(per_order, "delivered"),
        payment="paid" if per_order > 1 else "unpaid",
    )
    _expect(faults, "orders with another history", lab.query_row(query)[0], 0)
    expected = {derived_id("track", event.source, event.id) for event in work.inbox}
    records = lab.read(topics.STATUS, start, lab.end_offsets(topics.STATUS))
    return faults + published(records, expected, "announcements") + in_sequence(records)


def published(records: Sequence[Message], expected_ids: set[str], noun: str) -> list[str]:
    faults: list[str] = []
    ids = [_header(record, "ce_id") for record in records]
    _expect(faults, f"{noun} lost", len(expected_ids - set(ids)), 0)
    _expect(faults, f"{noun} unexpected", len(set(ids) - expected_ids), 0)
    _expect(faults, f"{noun} twice", len(ids) - len(set(ids)), 0)
    return faults


def in_sequence(records: Sequence[Message]) -> list[str]:
    """Checks that the announcements of each order are in the topic in the sequence of its events."""
    times_of: dict[bytes | None, list[str]] = {}
    for record in records:
        times_of.setdefault(record.key(), []).append(_header(record, "ce_time"))
    count = sum(any(early >= late for early, late in pairwise(times)) for times in times_of.values())
    return [f"orders announced out of sequence: {count}"] if count else []


def committed(lab: Lab, group: str, topic: str) -> list[str]:
    """Checks that no record of the topic would be delivered again."""
    ends = lab.end_offsets(topic)
    lag = sum(
        ends[partition] - offset for partition, offset in lab.committed(group, topic).items() if offset >= 0
    )
    return [f"records not committed: {lag}"] if lag else []


def sent_at(records: Sequence[Message]) -> dict[tuple[str, str], float]:
    """The time of each originating event's record, in seconds since the epoch, by (source, id)."""
    times: dict[tuple[str, str], float] = {}
    for record in records:
        source = _header(record, "ce_originsource") or _header(record, "ce_source")
        event_id = _header(record, "ce_originid") or _header(record, "ce_id")
        times[source, event_id] = record.timestamp()[1] / 1000
    return times


def _expect(faults: list[str], noun: str, actual: object, expected: int) -> None:
    if actual != expected:
        faults.append(f"{noun}: {actual} instead of {expected}")


def _header(message: Message, name: str) -> str:
    headers = cast("list[tuple[str, bytes]]", message.headers() or [])
    return next((value.decode() for header, value in headers if header == name), "")
