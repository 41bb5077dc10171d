"""What the audit does about a record that is nowhere to be found."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from orderflow import logs
from orderflow.audit import kafka_record
from orderflow.audit.checks import identity
from orderflow.audit.report import Missing, Remedy
from orderflow.domain.events import type_of
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, topics, trace_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.audit.kafka_record import Record
    from orderflow.audit.store import AuditStore
    from orderflow.messaging.cloudevent import Envelope
    from orderflow.messaging.publisher import Publisher
    from orderflow.shelve.parked_store import ParkedEventStore

log = logging.getLogger(__name__)

MOST_TRIES: Final = 3
"""How often an event is published again before it is parked: whatever drops it will go on doing so."""
_UNDELIVERABLE: Final = Reason(
    "undeliverable", "", f"published again {MOST_TRIES} times, and no stage has taken or parked it"
)
_LOST: Final = Reason("lost", "", "no stage has taken or parked it")


class Pace:
    """Lets at most so many a second through."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = per_second

    async def step(self) -> None:
        if self._left == 0:
            await asyncio.sleep(1)
            self._left = self._per_second
        self._left -= 1


class Remedies:
    def __init__(
        self, store: AuditStore, publisher: Publisher, shelf: ParkedEventStore, pace: Pace, revision: str
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._shelf = shelf
        self._pace = pace
        self._revision = revision

    async def apply(self, lost: Sequence[Record]) -> list[Missing]:
        """In the given order, which has to be that of the log. Raises UnavailableError where something was not
        confirmed; what was done by then is done again by the next run, with the same effect."""
        return [await self._apply_one(record) for record in lost]

    async def _apply_one(self, record: Record) -> Missing:
        await self._pace.step()
        try:
            event = kafka_record.read(record)
        except PoisonError as error:
            return await self._park(record, error.reasons[0])
        if record.topic == topics.PARKED and event.type == type_of("parked"):
            return await self._put(record, event)
        times = await self._store.times_republished(record.topic, (event.source, event.id))
        if times > MOST_TRIES:
            return await self._park(record, _UNDELIVERABLE)
        await self._publisher.publish(record.topic, [trace_context.relink(event)])
        return _missing(record, event.subject, _LOST, Remedy.REPUBLISHED)

    async def _park(self, record: Record, reason: Reason) -> Missing:
        letter = kafka_record.parked(record, reason, self._revision)
        await self._publisher.publish(topics.PARKED, [letter])
        return _missing(record, letter.subject, reason, Remedy.PARKED)

    async def _put(self, record: Record, event: Envelope) -> Missing:
        """Straight onto the shelf: where shelve did not take it, going round once more would not help."""
        try:
            await self._shelf.upsert(event, parked_event.read(event))
        except PoisonError as error:
            return await self._park(record, error.reasons[0])
        return _missing(record, event.subject, _LOST, Remedy.SHELVED)


def _missing(record: Record, order_id: str, reason: Reason, remedy: Remedy) -> Missing:
    source, event_id = identity(record) or ("", "")
    extra = {
        "order_id": order_id,
        "event_id": logs.identifier(event_id),
        "reason": reason.code,
        "remedy": remedy.value,
    }
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    log.warning("missing", extra=extra | place)
    return Missing(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        source=source,
        id=event_id,
        order_id=order_id,
        reason=reason.code,
        remedy=remedy,
    )
