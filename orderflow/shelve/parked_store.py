"""Stores parked events in PostgreSQL, where operators browse, edit and replay them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orderflow.adapters.postgres.pool import Database
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.parked_event import Parked

UPSERT: Final = """
INSERT INTO parked (id, order_id, stage, reasons, code, event_type, source, event_id, topic, topic_id, partition,
                    "offset", http_code, attributes, payload, parked_at, revision, returned, shelved_by,
                    recorded_at)
VALUES (%(id)s, %(order_id)s, %(stage)s, %(reasons)s, %(code)s, %(event_type)s, %(source)s, %(event_id)s,
        %(topic)s, %(topic_id)s, %(partition)s, %(offset)s, %(http_code)s, %(attributes)s, %(payload)s,
        %(parked_at)s, %(revision)s, (SELECT a.id FROM operator_actions a WHERE a.id = %(replay)s),
        %(shelved_by)s, now())
ON CONFLICT (id) DO UPDATE
SET times = parked.times + 1, seen_at = now(), revision = %(revision)s,
    returned = coalesce(excluded.returned, parked.returned),
    state = CASE WHEN parked.state = 'replayed' AND parked.replay = %(replay)s THEN 'open' ELSE parked.state END
"""
"""Counts how often the same event was parked. The state that an operator's action gave it stays, except where the
operators' last replay was parked again: then the parked event is open again. A replay that is not an operator's says
nothing."""


class ParkedEventStore:
    def __init__(self, database: Database, *, revision: str = "") -> None:
        self._database = database
        self._revision = revision

    async def upsert(self, event: CloudEvent, parked: Parked) -> None:
        """parked is the data of event."""
        attributes = parked.attributes
        values = {
            "id": event.id,
            "order_id": event.subject,
            "stage": parked.stage,
            "reasons": json.dumps([asdict(reason) for reason in parked.reasons]),
            "code": parked.reasons[0].code,
            "event_type": attributes.get("type", ""),
            "source": attributes.get("source", ""),
            "event_id": attributes.get("id", ""),
            "topic": parked.topic,
            "topic_id": parked.topic_id,
            "partition": parked.partition,
            "offset": parked.offset,
            "http_code": parked.http_code,
            "attributes": json.dumps(attributes | {"datacontenttype": parked.content_type}),
            "payload": parked.payload,
            "parked_at": event.time,
            "revision": parked.revision,
            "replay": attributes.get("replay"),
            "shelved_by": self._revision or None,
        }
        async with self._database.connection() as connection:
            await connection.execute(UPSERT, values)
