"""Whether a status event agrees with the order's history: notify tells nobody what track did not commit."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from orderflow.errors import PoisonError, Reason
from orderflow.messaging.batching import Batcher
from orderflow.messaging.deadline import EVENT_SECONDS
from orderflow.messaging.status_event import change_from_row, status_event, status_event_id
from orderflow.notify import model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.adapters.postgres.pool import Database, Row
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.notify.model import StatusChange

CODE: Final = "differs_from_history"
"""The code of the reason for which notify parks a status event that differs from the order's history."""
_LAST_VERSION: Final = 2**31 - 1

READ: Final = """
SELECT h.source, h.id, h.kind, h.status, h.payment, h.captured, h.refunded, h.detail,
       o.currency, o.total, o.document::text AS document, other.version AS other_version
FROM unnest(%(order_id)s::text[], %(version)s::int[], %(source)s::text[], %(id)s::text[])
     WITH ORDINALITY AS e (order_id, version, source, id, n)
LEFT JOIN history h ON h.order_id = e.order_id AND h.version = e.version
LEFT JOIN orders o ON o.order_id = e.order_id
LEFT JOIN LATERAL (
    SELECT v.version FROM history v
    WHERE h.order_id IS NULL AND v.order_id = e.order_id AND v.source = e.source AND v.id = e.id LIMIT 1
) other ON true
ORDER BY e.n
"""
"""One row for each status event, in their order: the history's row of the event's version, and the order. Where the
history has no such version, other_version is the version that the event's change has there."""

READ_CHANGE: Final = """
SELECT h.version, h.source, h.id, h.kind, h.status, h.payment, h.captured, h.refunded, h.detail, h.serial,
       h.occurred_at::text AS occurred_at, o.currency, o.total, o.document::text AS document
FROM history h JOIN orders o USING (order_id)
WHERE h.order_id = %(order_id)s AND h.source = %(source)s AND h.id = %(id)s
"""
"""The change that one event (source, id) brought about."""


@dataclass(slots=True)
class _Comparison:
    """HistoryStore fills in field: the first field that differs, empty where none does."""

    event: CloudEvent
    change: StatusChange
    field: str = ""


class HistoryStore:
    """Comparisons that are submitted at the same moment become one statement."""

    def __init__(self, database: Database, *, seconds: float = EVENT_SECONDS) -> None:
        """seconds is the time limit of a batch."""
        self._database = database
        self._comparisons = Batcher(self._compare, lambda each: each.event.id, seconds=seconds)

    async def check(self, event: CloudEvent, change: StatusChange) -> tuple[CloudEvent, StatusChange]:
        """The event and its data, once they agree with the history. change is the event's data.

        Raises PoisonError, which names the field, where the event differs. The replay of such an event has the data of
        the history instead. A change that the history does not have is no difference: the database may have been
        restored.
        """
        comparison = _Comparison(event, change)
        if not 1 <= change.version <= _LAST_VERSION:
            comparison.field = "version"
        else:
            await self._comparisons.submit(comparison)
        if not comparison.field:
            return event, change
        corrected = await self._corrected(event) if "replay" in event.extensions else None
        if corrected is None:
            raise PoisonError(Reason(CODE, comparison.field, "the order's history has another value"))
        return corrected, model.read(corrected)

    async def _corrected(self, event: CloudEvent) -> CloudEvent | None:
        """The event as track would announce it. None where the history does not have its change."""
        values = {
            "order_id": event.subject,
            "source": event.extensions.get("originsource", ""),
            "id": event.extensions.get("originid", ""),
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(READ_CHANGE, values)).fetchone()
        if row is None:
            return None
        change = change_from_row(row, row["currency"], row["total"])
        announced = status_event(event.subject, row["document"], change, event)
        return replace(announced, extensions=event.extensions) if announced.id == event.id else None

    async def _compare(self, comparisons: Sequence[_Comparison]) -> None:
        extensions = [each.event.extensions for each in comparisons]
        values = {
            "order_id": [each.change.order_id for each in comparisons],
            "version": [each.change.version for each in comparisons],
            "source": [each.get("originsource", "") for each in extensions],
            "id": [each.get("originid", "") for each in extensions],
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(READ, values)).fetchall()
        for each, row in zip(comparisons, rows, strict=True):
            each.field = differing_field(each.event, each.change, row)


def differing_field(event: CloudEvent, change: StatusChange, row: Row) -> str:
    """The first field in which a status event differs from its row of READ; empty where they agree."""
    if row["source"] is None or row["document"] is None:
        return "version" if row["other_version"] is not None else ""
    if event.id != status_event_id(row["source"], row["id"]):
        return "id"
    for name in ("kind", "status", "payment", "currency", "total", "captured", "refunded", "detail"):
        if getattr(change, name) != row[name]:
            return name
    return "" if _has_document(event, row["document"]) else "order"


def _has_document(event: CloudEvent, document: str) -> bool:
    """Track copies the order's document into its status events as it is, so it is mostly found without reading it."""
    if event.data.endswith(b'"order":%b}' % document.encode()):
        return True
    order: Any = json.loads(event.data)["order"]
    return bool(order == json.loads(document))
