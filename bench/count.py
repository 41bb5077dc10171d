"""What was lost and what came twice. Every list that is returned is empty, or the run is void."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

from orderflow.messaging import topics
from orderflow.messaging.cloudevent import derived_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from bench.lab import Ends, Lab
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


def tracked(lab: Lab, work: Workload, start: Ends) -> list[str]:
    """The ledger, the orders and their history, and the announcements since start, hold each event once."""
    faults: list[str] = []
    per_order = work.size // work.orders
    counts = lab.one("SELECT count(*), count(*) FILTER (WHERE outcome = 'applied') FROM ledger")
    _expect(faults, "ledger rows", counts[0], work.size)
    _expect(faults, "applied", counts[1], work.size)
    _expect(faults, "orders", lab.one("SELECT count(*) FROM orders")[0], work.orders)
    _expect(faults, "history rows", lab.one("SELECT count(*) FROM history")[0], work.size)
    _expect(faults, "waiting", lab.one("SELECT count(*) FROM waiting")[0], 0)
    kinds = ("accepted", "paid", "shipped", "delivered")[:per_order]
    query = _HISTORY_FAULTS.format(
        events=per_order,
        kinds=" ".join(kinds),
        status={1: "accepted", 2: "accepted", 3: "shipped"}.get(per_order, "delivered"),
        payment="paid" if per_order > 1 else "unpaid",
    )
    _expect(faults, "orders with another history", lab.one(query)[0], 0)
    expected = {derived_id("track", event.source, event.id) for event in work.inbox}
    found = lab.between(topics.STATUS, start, lab.ends(topics.STATUS))
    return faults + published(found, expected, "announcements") + in_sequence(found)


def published(found: Sequence[Message], expected: set[str], what: str) -> list[str]:
    faults: list[str] = []
    ids = [_header(message, "ce_id") for message in found]
    _expect(faults, f"{what} lost", len(expected - set(ids)), 0)
    _expect(faults, f"{what} unasked for", len(set(ids) - expected), 0)
    _expect(faults, f"{what} twice", len(ids) - len(set(ids)), 0)
    return faults


def in_sequence(found: Sequence[Message]) -> list[str]:
    """Each order's announcements are in the topic in the order of its life."""
    lives: dict[bytes | None, list[str]] = {}
    for message in found:
        lives.setdefault(message.key(), []).append(_header(message, "ce_time"))
    wrong = sum(any(early >= late for early, late in pairwise(times)) for times in lives.values())
    return [f"orders announced out of sequence: {wrong}"] if wrong else []


def committed(lab: Lab, group: str, topic: str) -> list[str]:
    """Nothing of the topic would come again."""
    ends = lab.ends(topic)
    behind = sum(
        ends[number] - offset for number, offset in lab.committed(group, topic).items() if offset >= 0
    )
    return [f"records not committed: {behind}"] if behind else []


def sent_at(found: Sequence[Message]) -> dict[tuple[str, str], float]:
    """When the producer made each originating event's record: seconds since the epoch by (source, id)."""
    times: dict[tuple[str, str], float] = {}
    for message in found:
        source = _header(message, "ce_originsource") or _header(message, "ce_source")
        event_id = _header(message, "ce_originid") or _header(message, "ce_id")
        times[source, event_id] = message.timestamp()[1] / 1000
    return times


def _expect(faults: list[str], what: str, found: object, wanted: int) -> None:
    if found != wanted:
        faults.append(f"{what}: {found} instead of {wanted}")


def _header(message: Message, name: str) -> str:
    headers = cast("list[tuple[str, bytes]]", message.headers() or [])
    return next((value.decode() for header, value in headers if header == name), "")
