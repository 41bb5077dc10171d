"""Inbox events, read from the log of the inbox by their places."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from orderflow.adapters.kafka.log import Log
from orderflow.adapters.kafka.producer import client_config
from orderflow.errors import PoisonError
from orderflow.messaging import cloudevent, topics
from orderflow.messaging.places import Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from orderflow.adapters.kafka.log import TopicLog
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.settings import KafkaSettings


class InboxLog:
    """Connects at first use: few queries repair anything."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._log: Log | None = None

    def events(self, places: Iterable[Place]) -> dict[Place, CloudEvent]:
        """Only those whose record is still in the log and is a CloudEvent. Raises TransientError where Kafka does not
        answer."""
        self._log = self._log or Log(client_config(self._settings))
        topic = self._log.describe(topics.INBOX)
        wanted = {place for place in places if _is_there(topic, place)}
        offsets: dict[int, list[int]] = {}
        for place in wanted:
            offsets.setdefault(place.partition, []).append(place.offset)
        ranges = {partition: (min(each), max(each) + 1) for partition, each in offsets.items()}
        events: dict[Place, CloudEvent] = {}
        for batch in self._log.read(topics.INBOX, ranges) if ranges else ():
            for message in batch:
                place = Place(topic.topic_id, message.partition() or 0, message.offset() or 0)
                if place in wanted and (event := _event(message)) is not None:
                    events[place] = event
        return events


def _is_there(topic: TopicLog, place: Place) -> bool:
    log = topic.partitions.get(place.partition)
    return log is not None and place.topic_id == topic.topic_id and log.start <= place.offset < log.end


def _event(message: Message) -> CloudEvent | None:
    """The record as KafkaSource delivers it. None where it is no CloudEvent."""
    named_values = cast("list[tuple[str, str | bytes | None]]", message.headers() or [])
    headers = [(name.lower(), _raw(value)) for name, value in named_values]
    named = [
        (f"ce-{name[3:]}".encode() if name.startswith("ce_") else name.encode(), value)
        for name, value in headers
        if name.startswith("ce_") or name == "content-type"
    ]
    try:
        return cloudevent.from_http(named, _raw(message.value()))
    except PoisonError:
        return None


def _raw(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
