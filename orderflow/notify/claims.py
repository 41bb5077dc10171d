"""Claims in PostgreSQL: one row per (event, channel, recipient), so that each notification is sent once.

A row's state is `claimed` (a process is sending, until its lease ends), `released` (not sent, free to claim), `sent`,
or `failed` (for good). Only the database's clock measures leases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from orderflow.messaging.batching import Batcher
from orderflow.messaging.deadline import EVENT_SECONDS
from orderflow.messaging.makers import TRACKED_BY, maker
from orderflow.notify.handler import Claim, ClaimStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.adapters.postgres.pool import Database, Row
    from orderflow.notify.model import Notification

CLAIM: Final = """
WITH due AS (
    SELECT d.*, n.state, n.error, g.endpoint IS NOT NULL AS gone
    FROM unnest(%(event_id)s::text[], %(channel)s::text[], %(recipient)s::text[], %(order_id)s::text[],
                %(kind)s::text[], %(tracked_by)s::text[])
        WITH ORDINALITY AS d (event_id, channel, recipient, order_id, kind, tracked_by, position)
    LEFT JOIN notifications n USING (event_id, channel, recipient)
    LEFT JOIN webhook_endpoints_gone g ON d.channel = 'webhook' AND g.endpoint = d.recipient
), claimed AS (
    INSERT INTO notifications AS n
           (event_id, channel, recipient, order_id, kind, state, claim, claimed_until, revision, tracked_by)
    SELECT event_id, channel, recipient, order_id, kind, 'claimed', %(claim)s,
           now() + make_interval(secs => %(lease_seconds)s), %(revision)s, tracked_by
    FROM due WHERE NOT gone AND state IS DISTINCT FROM 'sent'
    ORDER BY event_id, channel, recipient
    ON CONFLICT (event_id, channel, recipient) DO UPDATE
    SET state = 'claimed', claim = excluded.claim, claimed_until = excluded.claimed_until,
        attempts = n.attempts + 1, error = NULL, finished_at = NULL, revision = excluded.revision,
        tracked_by = excluded.tracked_by
    WHERE n.state = 'released'
       OR n.state = 'claimed' AND n.claimed_until < now()
       OR n.state = 'failed' AND %(retry_failed)s
    RETURNING event_id, channel, recipient
)
SELECT due.state, due.error, due.gone, claimed.event_id IS NOT NULL AS claimed
FROM due LEFT JOIN claimed USING (event_id, channel, recipient)
ORDER BY due.position
"""
"""Claims the notifications that are due and free. Returns one row per notification, in the order given: its state
before, and whether this statement claimed it. A row that another process inserts at the same moment has no state here,
and this statement does not claim it."""

CONFIRM: Final = """
UPDATE notifications n
SET state = 'sent', finished_at = now(), handovers = coalesce(n.handovers, 0) + c.handovers,
    miscounted_by = CASE WHEN c.handovers = 1 THEN n.miscounted_by ELSE n.revision END
FROM unnest(%(event_id)s::text[], %(channel)s::text[], %(recipient)s::text[], %(claim)s::uuid[], %(handovers)s::int[])
    AS c (event_id, channel, recipient, claim, handovers)
WHERE n.event_id = c.event_id AND n.channel = c.channel AND n.recipient = c.recipient
  AND n.state = 'claimed' AND n.claim = c.claim
RETURNING n.event_id, n.channel, n.recipient
"""
"""A claim allows one handover, and what is sent was handed over. A claim under which it is otherwise puts its revision
into miscounted_by."""

RELEASE: Final = """
UPDATE notifications
SET state = 'released', error = %(error)s, handovers = coalesce(handovers, 0) + %(handovers)s,
    miscounted_by = CASE WHEN %(handovers)s <= 1 THEN miscounted_by ELSE revision END
WHERE event_id = %(event_id)s AND channel = %(channel)s AND recipient = %(recipient)s
  AND state = 'claimed' AND claim = %(claim)s
RETURNING 1
"""

FAIL: Final = """
WITH disabled AS (
    INSERT INTO webhook_endpoints_gone (endpoint) SELECT %(recipient)s WHERE %(gone)s ON CONFLICT DO NOTHING
)
UPDATE notifications
SET state = 'failed', error = %(error)s, finished_at = now(), handovers = coalesce(handovers, 0) + %(handovers)s,
    miscounted_by = CASE WHEN %(handovers)s <= 1 THEN miscounted_by ELSE revision END
WHERE event_id = %(event_id)s AND channel = %(channel)s AND recipient = %(recipient)s
  AND state = 'claimed' AND claim = %(claim)s
RETURNING 1
"""


@dataclass(slots=True)
class _ClaimRequest:
    """The notifications of one event. ClaimStore fills in claims."""

    notifications: Sequence[Notification]
    claims: list[Claim] = field(default_factory=list)


@dataclass(slots=True)
class _Confirmation:
    """recorded is False where the claim was taken over."""

    claim: Claim
    recorded: bool = False


class ClaimStore:
    """Claims and confirmations that are submitted at the same moment become one statement.

    No notification to an endpoint in `webhook_endpoints_gone` is claimed until the endpoint's row is deleted.
    """

    def __init__(
        self, database: Database, *, revision: str, lease_seconds: float, seconds: float = EVENT_SECONDS
    ) -> None:
        """seconds is the time limit of a batch."""
        self._database = database
        self._revision = revision
        self._lease_seconds = lease_seconds
        self._claims = Batcher(
            self._claim, lambda request: request.notifications[0].event.id, seconds=seconds
        )
        self._confirmations = Batcher(
            self._confirm, lambda each: _key(each.claim.notification), seconds=seconds
        )

    async def claim(self, notifications: Sequence[Notification], *, retry_failed: bool) -> list[Claim]:
        """Claims those notifications of one event that are free. With retry_failed, notifications that failed for
        good are free too."""
        request = _ClaimRequest(notifications)
        if retry_failed:
            await self._claim([request], retry_failed=True)
        else:
            await self._claims.submit(request)
        return request.claims

    async def confirm(self, claim: Claim) -> bool:
        confirmation = _Confirmation(claim)
        await self._confirmations.submit(confirmation)
        return confirmation.recorded

    async def _claim(self, requests: Sequence[_ClaimRequest], *, retry_failed: bool = False) -> None:
        token = uuid4()
        notifications = [notification for request in requests for notification in request.notifications]
        values = _key_columns(notifications) | {
            "order_id": [each.change.order_id for each in notifications],
            "kind": [each.change.kind for each in notifications],
            "tracked_by": [maker(each.event, TRACKED_BY) or None for each in notifications],
            "claim": token,
            "lease_seconds": self._lease_seconds,
            "revision": self._revision,
            "retry_failed": retry_failed,
        }
        async with self._database.connection() as connection:
            rows = iter(await (await connection.execute(CLAIM, values)).fetchall())
        for request in requests:
            request_rows = islice(rows, len(request.notifications))
            request.claims = [
                Claim(notification, token, _status(row), row["error"] or "")
                for notification, row in zip(request.notifications, request_rows, strict=True)
            ]

    async def _confirm(self, confirmations: Sequence[_Confirmation]) -> None:
        values = _key_columns([each.claim.notification for each in confirmations]) | {
            "claim": [each.claim.token for each in confirmations],
            "handovers": [each.claim.handover.count for each in confirmations],
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(CONFIRM, values)).fetchall()
        recorded = {(row["event_id"], row["channel"], row["recipient"]) for row in rows}
        for each in confirmations:
            each.recorded = _key(each.claim.notification) in recorded

    async def fail(self, claim: Claim, code: str, *, gone: bool) -> bool:
        """gone disables the recipient, even if another process holds the claim by now."""
        return await self._record(FAIL, claim, error=code, gone=gone)

    async def release(self, claim: Claim, code: str) -> bool:
        return await self._record(RELEASE, claim, error=code)

    async def _record(self, statement: str, claim: Claim, **values: object) -> bool:
        event_id, channel, recipient = _key(claim.notification)
        keys = {"event_id": event_id, "channel": channel, "recipient": recipient, "claim": claim.token}
        values["handovers"] = claim.handover.count
        async with self._database.connection() as connection:
            return await (await connection.execute(statement, keys | values)).fetchone() is not None


def _key(notification: Notification) -> tuple[str, str, str]:
    return notification.event.id, notification.channel, notification.recipient


def _key_columns(notifications: Sequence[Notification]) -> Row:
    return {
        "event_id": [each.event.id for each in notifications],
        "channel": [each.channel for each in notifications],
        "recipient": [each.recipient for each in notifications],
    }


def _status(row: Row) -> ClaimStatus:
    if row["claimed"]:
        return ClaimStatus.OURS
    if row["state"] == "sent":
        return ClaimStatus.SENT
    if row["state"] == "failed":
        return ClaimStatus.FAILED
    return ClaimStatus.DISABLED if row["gone"] else ClaimStatus.BUSY
