"""Inbox events, read from the log of the inbox by their places."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orderflow.adapters.kafka import kafka_record
from orderflow.errors import PoisonError
from orderflow.messaging import topics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.adapters.kafka.kafka_record import KafkaRecord
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.places import Place
    from orderflow.query.clients.topic_records import TopicRecords


class InboxLog:
    def __init__(self, records: TopicRecords) -> None:
        self._records = records

    def events(self, places: Iterable[Place]) -> dict[Place, CloudEvent]:
        """Only those whose record is still in the log and is a CloudEvent. Raises TransientError where Kafka does not
        answer."""
        records = asyncio.run(self._read(list(places)))
        events = ((place, _event(record)) for place, record in records.items())
        return {place: event for place, event in events if event is not None}

    async def _read(self, places: list[Place]) -> dict[Place, KafkaRecord]:
        async with self._records.reader() as reader:
            return await self._records.at(reader, topics.INBOX, places)


def _event(record: KafkaRecord) -> CloudEvent | None:
    try:
        return kafka_record.read(record)
    except PoisonError:
        return None
