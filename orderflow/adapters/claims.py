"""Claims in PostgreSQL: a row per (event, channel, recipient), so that each is sent once.

A row's state is `claimed` (somebody sends, until the lease ends), `released` (not sent, free), `sent` or
`failed` (for good). Leases are measured by the database's clock alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from orderflow.notifier import Claim, Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.adapters.postgres import Database, Row
    from orderflow.notifications import Notification

CLAIM: Final = """
WITH due AS (
    SELECT d.*, n.state, n.error, g.endpoint IS NOT NULL AS gone
    FROM unnest(%(event_id)s::text[], %(channel)s::text[], %(recipient)s::text[], %(order_id)s::text[],
                %(kind)s::text[])
        WITH ORDINALITY AS d (event_id, channel, recipient, order_id, kind, position)
    LEFT JOIN notifications n USING (event_id, channel, recipient)
    LEFT JOIN webhook_endpoints_gone g ON d.channel = 'webhook' AND g.endpoint = d.recipient
), taken AS (
    INSERT INTO notifications AS n
           (event_id, channel, recipient, order_id, kind, state, claim, claimed_until, revision)
    SELECT event_id, channel, recipient, order_id, kind, 'claimed', %(claim)s,
           now() + make_interval(secs => %(lease_seconds)s), %(revision)s
    FROM due WHERE NOT gone AND state IS DISTINCT FROM 'sent'
    ORDER BY event_id, channel, recipient
    ON CONFLICT (event_id, channel, recipient) DO UPDATE
    SET state = 'claimed', claim = excluded.claim, claimed_until = excluded.claimed_until,
        attempts = n.attempts + 1, error = NULL, finished_at = NULL, revision = excluded.revision
    WHERE n.state = 'released'
       OR n.state = 'claimed' AND n.claimed_until < now()
       OR n.state = 'failed' AND %(failed_too)s
    RETURNING event_id, channel, recipient
)
SELECT due.state, due.error, due.gone, taken.event_id IS NOT NULL AS taken
FROM due LEFT JOIN taken USING (event_id, channel, recipient)
ORDER BY due.position
"""
"""Claims what is due and free. One row for each that is due, in their order: the state before, and whether
it is ours now. What somebody else inserted at this very moment has no state yet and is not ours."""

CONFIRM: Final = """
UPDATE notifications SET state = 'sent', finished_at = now()
WHERE event_id = %(event_id)s AND channel = %(channel)s AND recipient = %(recipient)s
  AND state = 'claimed' AND claim = %(claim)s
RETURNING 1
"""

RELEASE: Final = """
UPDATE notifications SET state = 'released', error = %(error)s
WHERE event_id = %(event_id)s AND channel = %(channel)s AND recipient = %(recipient)s
  AND state = 'claimed' AND claim = %(claim)s
RETURNING 1
"""

FAIL: Final = """
WITH disabled AS (
    INSERT INTO webhook_endpoints_gone (endpoint) SELECT %(recipient)s WHERE %(gone)s ON CONFLICT DO NOTHING
)
UPDATE notifications SET state = 'failed', error = %(error)s, finished_at = now()
WHERE event_id = %(event_id)s AND channel = %(channel)s AND recipient = %(recipient)s
  AND state = 'claimed' AND claim = %(claim)s
RETURNING 1
"""


class ClaimStore:
    """An endpoint in `webhook_endpoints_gone` is claimed no more until its row is deleted."""

    def __init__(self, database: Database, *, revision: str, lease_seconds: float) -> None:
        self._database = database
        self._revision = revision
        self._lease_seconds = lease_seconds

    async def claim(self, due: Sequence[Notification], *, failed_too: bool) -> list[Claim]:
        """Claims all that are free, in one statement; failed_too: those that failed for good are free as well."""
        token = uuid4()
        values = {
            "event_id": [each.event.id for each in due],
            "channel": [each.channel for each in due],
            "recipient": [each.recipient for each in due],
            "order_id": [each.change.order_id for each in due],
            "kind": [each.change.kind for each in due],
            "claim": token,
            "lease_seconds": self._lease_seconds,
            "revision": self._revision,
            "failed_too": failed_too,
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(CLAIM, values)).fetchall()
        return [
            Claim(notification, token, _found(row), row["error"] or "")
            for notification, row in zip(due, rows, strict=True)
        ]

    async def confirm(self, claim: Claim) -> bool:
        return await self._record(CONFIRM, claim)

    async def fail(self, claim: Claim, code: str, *, gone: bool) -> bool:
        """gone disables the recipient, whoever holds the claim by now."""
        return await self._record(FAIL, claim, error=code, gone=gone)

    async def release(self, claim: Claim, code: str) -> bool:
        return await self._record(RELEASE, claim, error=code)

    async def _record(self, statement: str, claim: Claim, **values: object) -> bool:
        notification = claim.notification
        keys = {
            "event_id": notification.event.id,
            "channel": notification.channel,
            "recipient": notification.recipient,
            "claim": claim.token,
        }
        async with self._database.connection() as connection:
            return await (await connection.execute(statement, keys | values)).fetchone() is not None


def _found(row: Row) -> Found:
    if row["taken"]:
        return Found.OURS
    if row["state"] == "sent":
        return Found.SENT
    if row["state"] == "failed":
        return Found.FAILED
    return Found.DISABLED if row["gone"] else Found.BUSY
