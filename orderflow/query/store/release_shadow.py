"""What a release's new revision has decided about events, and the state of each order before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row
from psycopg.sql import SQL

from orderflow.domain.lifecycle import OrderState, Payment, Status
from orderflow.errors import Reason
from orderflow.query.store.snapshot_pool import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orderflow.query.store.snapshot_pool import Connection

Identity = tuple[str, str]
"""The source and the id of an inbox event."""

_DECIDED: Final = """
SELECT l.source, l.id, l.order_id, l.digest, l.outcome, l.reason, l.first_version, l.recorded_at,
       coalesce(l.replays, '{}') AS replays,
       o.currency, o.total, o.digest AS order_digest, o.content_digest AS order_content_digest, o.document,
       step.together, step.earliest,
       (SELECT max(s.sequence) FROM ledger s
        WHERE s.order_id = l.order_id AND s.source = l.source AND s.outcome IN ('applied', 'refused')
          AND s.recorded_at < l.recorded_at) AS decided_sequence,
       coalesce(l.first_version - 1, (SELECT max(h.version) FROM history h
        WHERE h.order_id = l.order_id AND h.recorded_at < l.recorded_at), 0) AS version_before,
       (SELECT json_agg(h ORDER BY h.version) FROM history h WHERE h.order_id = l.order_id) AS changes
FROM unnest(%(source)s::text[], %(id)s::text[]) AS e (source, id)
JOIN ledger l ON l.source = e.source AND l.id = e.id
LEFT JOIN orders o ON o.order_id = l.order_id
CROSS JOIN LATERAL (
    SELECT count(*) AS together, min(s.first_version) AS earliest FROM ledger s
    WHERE s.order_id = l.order_id AND s.recorded_at = l.recorded_at
) step
WHERE l.revision = %(revision)s AND l.recorded_at >= %(since)s
"""
"""recorded_at is the time of the statement that wrote a decision, and an order's decisions are written one after the
other: what was recorded before was decided before. together: how many events were decided in the same step, an event
and those that had waited for it. earliest: the version that the first of them brought about."""
_PARKED: Final = """
SELECT order_id, reasons, attributes, payload FROM parked p
WHERE stage = %(stage)s AND revision = %(revision)s AND seen_at >= %(since)s AND code <> ALL(%(not_judged)s)
  AND NOT reasons::jsonb @> '[{"code": "payload_cut"}]'
  AND NOT EXISTS (SELECT FROM ledger l WHERE stage = 'track'
                  AND l.source = p.attributes ->> 'originsource' AND l.id = p.attributes ->> 'originid')
ORDER BY parked_at DESC, id DESC LIMIT %(limit)s
"""
NOT_JUDGED: Final = (
    *("event_id_reused", "too_many_wait", "waited_too_long", "overtaken"),
    *("not_storable", "too_large"),
)
"""Codes of parked events that follow from the time, from other events or from a server, and not from the event and its
order alone."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the ledger. before and after are the states of the order, None where there is none. complete: all that
    the decision depended on is known. placed: the event placed the order; document is that of the order."""

    source: str
    id: str
    order_id: str
    digest: str
    outcome: str
    reason: Reason | None
    recorded_at: datetime
    replays: list[str]
    decided_sequence: int | None
    before: OrderState | None
    after: OrderState | None
    detail: dict[str, Any] | None
    document: dict[str, Any] | None
    complete: bool


@dataclass(frozen=True, slots=True)
class ParkedByRelease:
    """reasons are those for which the revision parked the event, attributes and payload are the event's own."""

    order_id: str
    reasons: list[dict[str, str]]
    attributes: dict[str, str]
    payload: bytes


def decisions(
    connection: Connection, revision: str, since: datetime, identities: Sequence[Identity]
) -> dict[Identity, Decision]:
    """Of these inbox events, what one revision of track decided since then."""
    values = {
        "revision": revision,
        "since": since,
        "source": [source for source, _ in identities],
        "id": [event_id for _, event_id in identities],
    }
    rows = connection.cursor(row_factory=dict_row).execute(SQL(_DECIDED), values).fetchall()
    return {(row["source"], row["id"]): _decision(row) for row in rows}


def parked_by(
    connection: Connection, stage: str, revision: str, since: datetime, limit: int
) -> list[ParkedByRelease]:
    """What one revision parked since then because of the event alone, latest first. What track has also written to the
    ledger is left out."""
    values = {
        "stage": stage,
        "revision": revision,
        "since": since,
        "limit": limit,
        "not_judged": list(NOT_JUDGED),
    }
    return fetch(connection, ParkedByRelease, SQL(_PARKED), values)


def _decision(row: Mapping[str, Any]) -> Decision:
    changes = {change["version"]: change for change in row["changes"] or ()}
    applied = row["outcome"] == "applied"
    version, first = row["version_before"], row["first_version"]
    is_first = applied and first == 1
    reason = Reason(**row["reason"]) if row["reason"] else None
    return Decision(
        source=row["source"],
        id=row["id"],
        order_id=row["order_id"],
        digest=row["digest"],
        outcome=row["outcome"],
        reason=reason,
        recorded_at=row["recorded_at"],
        replays=row["replays"],
        # What had waited is not overtaken when its time comes.
        decided_sequence=row["decided_sequence"] if first == row["earliest"] else None,
        before=_state(row, changes, version),
        after=_state(row, changes, first) if applied else None,
        detail=changes[first]["detail"] if applied and first in changes else None,
        document=row["document"] if is_first else None,
        complete=_is_complete(row, changes, reason),
    )


def _is_complete(row: Mapping[str, Any], changes: Mapping[int, Any], reason: Reason | None) -> bool:
    if row["currency"] is None or (reason is not None and reason.code == "waited_too_long"):
        return False
    if row["outcome"] == "applied":
        return row["first_version"] in changes and (
            row["version_before"] == 0 or row["version_before"] in changes
        )
    # Several events of the order were decided in one step: between which of its changes this one was, no row says.
    if row["together"] > 1:
        return False
    # By places an event is overtaken by one whose place the ledger does not have.
    return reason is None or (reason.code, reason.field) != ("overtaken", "")


def _state(row: Mapping[str, Any], changes: Mapping[int, Any], version: int) -> OrderState | None:
    """The order's state in a version. The state to which a release returns follows from the versions before."""
    change = changes.get(version)
    if change is None:
        return None
    return OrderState(
        status=Status(change["status"]),
        payment=Payment(change["payment"]),
        currency=row["currency"],
        total=row["total"],
        captured=change["captured"],
        refunded=change["refunded"],
        resumes=_resumes(changes, version),
        version=version,
        digest=row["order_digest"],
        content_digest=row["order_content_digest"] or "",
    )


def _resumes(changes: Mapping[int, Any], version: int) -> Status | None:
    """Held after packing, the order is packed again when it is released."""
    held_since = version
    while held_since in changes and changes[held_since]["status"] == "held":
        held_since -= 1
    was = changes.get(held_since)
    return Status.PACKED if held_since < version and was is not None and was["status"] == "packed" else None
