"""What no revision may do, not even once, as PostgreSQL shows it: counts since the release's attempt got its share.

A stage whose effect is only in Kafka has none here: orderflow/query/clients/published_answers.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.release_analysis import Invariant
from orderflow.messaging import topics

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from orderflow.query.store.snapshot_pool import Connection

WITHOUT_EFFECT: Final = """
SELECT coalesce(sum(CASE
    WHEN r.report -> 'lost_at' IS NOT NULL THEN (
        SELECT count(*) FROM json_array_elements_text(r.report -> 'lost_at' -> %(topic)s) AS lost (at)
        WHERE lost.at::timestamptz >= %(since)s)
    WHEN r.started_at >= %(since)s THEN (r.report -> 'topics' -> %(topic)s ->> 'missing')::bigint
END), 0)
FROM audit_runs r
WHERE r.started_at > %(since)s - interval '1 day' AND r.finished_at >= %(since)s
"""
"""Events of the stage's topic that the stage answered 2xx and did nothing with. They count by the time at which they
were written, whenever the audit found them. An earlier release of the audit did not say that time: of its runs, those
count that began since then."""

NOT_ANNOUNCED: Final = """
SELECT count(*)
FROM audit_runs r CROSS JOIN LATERAL json_array_elements_text(r.report -> 'unannounced' -> %(canary)s) AS change (at)
WHERE r.started_at > %(since)s - interval '1 day' AND r.finished_at >= %(since)s
  AND change.at::timestamptz >= %(since)s
"""
"""Changes that the revision of track committed, and that nobody announced before the audit did."""

DIFFERS_FROM_HISTORY: Final = """
SELECT count(*) FROM parked
WHERE stage = 'notify' AND code = 'differs_from_history' AND parked_at >= %(since)s
  AND attributes ->> 'trackedby' = %(canary)s
"""
"""Status events of the revision of track that notify parked because they differ from the order's history."""

MISCOUNTED: Final = """
SELECT count(*) FROM notifications
WHERE miscounted_by = %(canary)s AND created_at >= %(since)s - interval '1 day'
  AND coalesce(finished_at, claimed_until) >= %(since)s
"""
"""Notifications that the revision of notify handed over more than once under one claim, or recorded as sent without
handing them over."""

WRITTEN_CHANGES: Final = """
SELECT source, id, recorded_at FROM history
WHERE revision = %(canary)s AND recorded_at >= %(since)s AND recorded_at < now() - %(patience)s::interval
ORDER BY recorded_at DESC LIMIT %(limit)s
"""

_TOPICS: Final = {
    "validate": topics.INBOX,
    "track": topics.EVENTS,
    "notify": topics.STATUS,
    "shelve": topics.PARKED,
}
_STATEMENTS: Final = {
    "validate": {"events_without_effect": WITHOUT_EFFECT},
    "track": {
        "events_without_effect": WITHOUT_EFFECT,
        "changes_not_announced": NOT_ANNOUNCED,
        "status_events_that_differ_from_history": DIFFERS_FROM_HISTORY,
    },
    "notify": {
        "events_without_effect": WITHOUT_EFFECT,
        "handovers_that_differ_from_claims": MISCOUNTED,
    },
    "shelve": {"events_without_effect": WITHOUT_EFFECT},
}


def invariants(connection: Connection, stage: str, canary: str, since: datetime) -> list[Invariant]:
    """Empty for a stage that leaves nothing in PostgreSQL. An event without effect counts for its stage, because it
    does not show which revision took it; everything else counts for the revision canary."""
    values = {"canary": canary, "since": since, "topic": _TOPICS.get(stage)}
    return [
        Invariant(name, _number(connection, statement, values))
        for name, statement in _STATEMENTS.get(stage, {}).items()
    ]


def written_changes(
    connection: Connection, canary: str, since: datetime, patience: timedelta, limit: int
) -> tuple[list[tuple[str, str]], datetime | None]:
    """The latest changes that the revision of track wrote and that are older than patience: (source, id) of the events
    that brought them about; and when the first of them was written."""
    values = {"canary": canary, "since": since, "patience": patience, "limit": limit}
    rows = connection.execute(WRITTEN_CHANGES, values).fetchall()
    return [(source, event_id) for source, event_id, _ in rows], rows[-1][2] if rows else None


def _number(connection: Connection, statement: str, values: dict[str, Any]) -> int:
    row = connection.execute(statement.encode(), values).fetchone()
    return int(row[0]) if row else 0
