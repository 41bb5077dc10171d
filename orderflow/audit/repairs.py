"""Repairs a record of which the database knows nothing: publishes it again, parks it, or stores it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from orderflow import logs
from orderflow.adapters.kafka import kafka_record
from orderflow.adapters.kafka.kafka_record import identity
from orderflow.audit.report import Missing, Remedy
from orderflow.domain.events import type_of
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, topics, trace_context
from orderflow.messaging.places import FIRST_PLACE, INBOX_PLACE, Place

if TYPE_CHECKING:
    from orderflow.adapters.kafka.kafka_record import KafkaRecord
    from orderflow.audit.store import AuditStore
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.parked_event import Parked
    from orderflow.messaging.publisher import Publisher

log = logging.getLogger(__name__)

MAX_REPUBLISHED: Final = 3
"""How often an event is published again before it is parked. What drops an event so often will go on dropping it."""
_UNDELIVERABLE: Final = Reason(
    "undeliverable", "", f"published again {MAX_REPUBLISHED} times, and no stage has handled or parked it"
)
_LOST: Final = Reason("lost", "", "no stage has handled or parked it")


class ParkedEvents(Protocol):
    """Where shelve stores parked events."""

    async def upsert(self, event: CloudEvent, parked: Parked) -> None:
        """parked is the data of event."""


class RateLimiter:
    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._remaining = per_second

    async def acquire(self) -> None:
        if self._remaining == 0:
            await asyncio.sleep(1)
            self._remaining = self._per_second
        self._remaining -= 1


class Repairs:
    def __init__(
        self,
        store: AuditStore,
        publisher: Publisher,
        parked_events: ParkedEvents,
        limiter: RateLimiter,
        revision: str,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._parked_events = parked_events
        self._limiter = limiter
        self._revision = revision
        self._repaired: set[tuple[str, ...]] = set()

    async def repair(self, record: KafkaRecord, topic_id: str) -> Missing | None:
        """Repairs one record of the topic with this id. Records must come in the sequence of their log. None where
        this run has repaired a record with the same event already: it was sent several times.

        Raises TransientError where the repair was not confirmed. The next run then repeats it, with the same effect.
        """
        try:
            event = kafka_record.read(record)
        except PoisonError as error:
            return await self._park(record, topic_id, error.reasons[0])
        content = (
            record.topic,
            event.source,
            event.id,
            record.payload_digest.hex(),
            event.extensions.get("replay", ""),
        )
        if content in self._repaired:
            return None
        self._repaired.add(content)
        await self._limiter.acquire()
        if record.topic == topics.PARKED and event.type == type_of("parked"):
            return await self._shelve(record, topic_id, event)
        times = await self._store.times_republished(record.topic, (event.source, event.id))
        if times > MAX_REPUBLISHED:
            return await self._park(record, topic_id, _UNDELIVERABLE)
        try:
            is_replay = bool((await self._store.replays([record]))[0])
            again = _again(record, topic_id, event, is_replay=is_replay)
            await self._publisher.publish(record.topic, [again])
        except PoisonError as error:
            return await self._park(record, topic_id, error.reasons[0])
        return _missing(record, event.subject, _LOST, Remedy.REPUBLISHED)

    async def _park(self, record: KafkaRecord, topic_id: str, reason: Reason) -> Missing:
        event = await parked_event.publish(
            self._publisher,
            lambda max_payload: kafka_record.parked_event_of(
                record, reason, self._revision, topic_id=topic_id, max_payload=max_payload
            ),
        )
        return _missing(record, event.subject, reason, Remedy.PARKED)

    async def _shelve(self, record: KafkaRecord, topic_id: str, event: CloudEvent) -> Missing:
        """Stores a parked event without shelve: shelve has dropped it, and may drop it again."""
        try:
            await self._parked_events.upsert(event, parked_event.read(event))
        except PoisonError as error:
            return await self._park(record, topic_id, error.reasons[0])
        return _missing(record, event.subject, _LOST, Remedy.SHELVED)


def _again(record: KafkaRecord, topic_id: str, event: CloudEvent, *, is_replay: bool) -> CloudEvent:
    """The event to publish again, with its first place, which says where in the sequence it belongs.

    An operator's replay without one stays so: the operator has decided that the event takes effect now.
    """
    event = trace_context.relink(event)
    if FIRST_PLACE in event.extensions or is_replay:
        return event
    if record.topic == topics.INBOX:
        place = str(Place(topic_id, record.partition, record.offset))
    else:
        place = event.extensions.get(INBOX_PLACE, "")
    return event.with_extensions(**{FIRST_PLACE: place}) if place else event


def _missing(record: KafkaRecord, order_id: str, reason: Reason, remedy: Remedy) -> Missing:
    source, event_id = identity(record) or ("", "")
    extra = {
        "order_id": order_id,
        "event_id": logs.identifier(event_id),
        "reason": reason.code,
        "remedy": remedy.value,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
    }
    log.warning("missing", extra=extra)
    return Missing(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        source=source,
        id=event_id,
        order_id=order_id,
        reason=reason.code,
        remedy=remedy,
        lost_at=record.written_at if reason in {_LOST, _UNDELIVERABLE} and record.deliverable else None,
    )
