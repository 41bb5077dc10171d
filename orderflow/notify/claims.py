"""Claims in PostgreSQL: a row per (event, channel, recipient), so that each is sent once.

A row's state is `claimed` (somebody sends, until the lease ends), `released` (not sent, free), `sent` or
`failed` (for good). Leases are measured by the database's clock alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from orderflow.messaging.batching import Batcher
from orderflow.notify.handler import Claim, Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.adapters.postgres.pool import Database, Row
    from orderflow.notify.model import Notification

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
UPDATE notifications n SET state = 'sent', finished_at = now()
FROM unnest(%(event_id)s::text[], %(channel)s::text[], %(recipient)s::text[], %(claim)s::uuid[])
    AS c (event_id, channel, recipient, claim)
WHERE n.event_id = c.event_id AND n.channel = c.channel AND n.recipient = c.recipient
  AND n.state = 'claimed' AND n.claim = c.claim
RETURNING n.event_id, n.channel, n.recipient
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


@dataclass(slots=True)
class _Due:
    """What one event asks for; claims is the answer."""

    notifications: Sequence[Notification]
    claims: list[Claim] = field(default_factory=list)


@dataclass(slots=True)
class _Sent:
    claim: Claim
    kept: bool = False


class ClaimStore:
    """What is claimed or confirmed at one moment goes to the database as one statement.

    An endpoint in `webhook_endpoints_gone` is claimed no more until its row is deleted.
    """

    def __init__(self, database: Database, *, revision: str, lease_seconds: float) -> None:
        self._database = database
        self._revision = revision
        self._lease_seconds = lease_seconds
        self._claiming = Batcher(self._claim, lambda due: due.notifications[0].event.id)
        self._confirming = Batcher(self._confirm, lambda sent: _key(sent.claim.notification))

    async def claim(self, due: Sequence[Notification], *, failed_too: bool) -> list[Claim]:
        """Claims what is free of one event's; failed_too: what failed for good is free as well."""
        asked = _Due(due)
        if failed_too:
            await self._claim([asked], failed_too=True)
        else:
            await self._claiming.submit(asked)
        return asked.claims

    async def confirm(self, claim: Claim) -> bool:
        sent = _Sent(claim)
        await self._confirming.submit(sent)
        return sent.kept

    async def _claim(self, asked: Sequence[_Due], *, failed_too: bool = False) -> None:
        token = uuid4()
        due = [notification for each in asked for notification in each.notifications]
        values = _keys(due) | {
            "order_id": [each.change.order_id for each in due],
            "kind": [each.change.kind for each in due],
            "claim": token,
            "lease_seconds": self._lease_seconds,
            "revision": self._revision,
            "failed_too": failed_too,
        }
        async with self._database.connection() as connection:
            rows = iter(await (await connection.execute(CLAIM, values)).fetchall())
        for each in asked:
            its = islice(rows, len(each.notifications))
            each.claims = [
                Claim(notification, token, _found(row), row["error"] or "")
                for notification, row in zip(each.notifications, its, strict=True)
            ]

    async def _confirm(self, sent: Sequence[_Sent]) -> None:
        values = _keys([each.claim.notification for each in sent]) | {
            "claim": [each.claim.token for each in sent]
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(CONFIRM, values)).fetchall()
        kept = {(row["event_id"], row["channel"], row["recipient"]) for row in rows}
        for each in sent:
            each.kept = _key(each.claim.notification) in kept

    async def fail(self, claim: Claim, code: str, *, gone: bool) -> bool:
        """gone disables the recipient, whoever holds the claim by now."""
        return await self._record(FAIL, claim, error=code, gone=gone)

    async def release(self, claim: Claim, code: str) -> bool:
        return await self._record(RELEASE, claim, error=code)

    async def _record(self, statement: str, claim: Claim, **values: object) -> bool:
        event_id, channel, recipient = _key(claim.notification)
        keys = {"event_id": event_id, "channel": channel, "recipient": recipient, "claim": claim.token}
        async with self._database.connection() as connection:
            return await (await connection.execute(statement, keys | values)).fetchone() is not None


def _key(notification: Notification) -> tuple[str, str, str]:
    return notification.event.id, notification.channel, notification.recipient


def _keys(notifications: Sequence[Notification]) -> Row:
    """The keys as columns."""
    return {
        "event_id": [each.event.id for each in notifications],
        "channel": [each.channel for each in notifications],
        "recipient": [each.recipient for each in notifications],
    }


def _found(row: Row) -> Found:
    if row["taken"]:
        return Found.OURS
    if row["state"] == "sent":
        return Found.SENT
    if row["state"] == "failed":
        return Found.FAILED
    return Found.DISABLED if row["gone"] else Found.BUSY
