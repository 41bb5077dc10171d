"""A record in the log of a topic, read as KafkaSource reads it."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final, cast

from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent, parked_event, topics

if TYPE_CHECKING:
    from typing import Self

    from confluent_kafka import Message

    from orderflow.messaging.cloudevent import CloudEvent

STAGE: Final = "audit"
_STRUCTURED: Final = b"application/cloudevents+json"
UNREADABLE: Final = Reason(
    "unreadable",
    "",
    "the client library cannot read this record, or not its headers; its place in the topic has it",
)

Identity = tuple[str, str]
"""The source and the id of a CloudEvent."""


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """headers are by lower-case name. Of several headers with one name the last counts. A header without a value is
    None. unreadable: the client library cannot read the record, or not all of it."""

    topic: str
    partition: int
    offset: int
    written_at: datetime
    key: bytes | None
    headers: Mapping[str, bytes | None]
    value: bytes | None
    unreadable: bool = False

    @classmethod
    def unread(cls, topic: str, partition: int, offset: int, now: datetime) -> Self:
        """A record of which only the place is known."""
        return cls(topic, partition, offset, now, None, {}, None, unreadable=True)

    @classmethod
    def of(cls, message: Message, *, with_headers: bool = True) -> Self:
        """Without its headers, the record is unreadable."""
        named = (message.headers() or []) if with_headers else []
        headers = {name.lower(): _raw(value) for name, value in cast("list[tuple[str, bytes | None]]", named)}
        return cls(
            topic=message.topic() or "",
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            written_at=datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
            key=_raw(message.key()),
            headers=headers,
            value=_raw(message.value()),
            unreadable=not with_headers,
        )

    @property
    def deliverable(self) -> bool:
        """Whether KafkaSource delivers the record. It drops records that have a header without a value or a NUL in
        their key."""
        return not self.unreadable and None not in self.headers.values() and b"\0" not in (self.key or b"")

    @property
    def payload_digest(self) -> bytes:
        return sha256(self.value or b"").digest()

    @property
    def identity(self) -> Identity | None:
        """The identity of a CloudEvent in binary mode, even where the rest of the event is invalid. None for any other
        record."""
        source, event_id = self.attribute("source"), self.attribute("id")
        return (source, event_id) if source and event_id and self.attribute("specversion") else None

    def attribute(self, name: str) -> str:
        """Empty where the attribute is missing, or has a NUL, which PostgreSQL accepts in no parameter."""
        value = self.headers.get(f"ce_{name}") or b""
        return "" if b"\0" in value else value.decode("latin-1")

    @property
    def structured(self) -> bool:
        return (self.headers.get("content-type") or b"").lower().startswith(_STRUCTURED)


def _raw(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def read(record: KafkaRecord) -> CloudEvent:
    """The record's CloudEvent. Raises PoisonError, with the reason, where there is none.

    A header without a value is left out where it is no attribute of the event: KafkaSource drops such a record, but the
    event can be sent again without that header.
    """
    if record.unreadable:
        raise PoisonError(UNREADABLE)
    attributes = (name for name in record.headers if name.startswith("ce_") or name == "content-type")
    if any(record.headers[name] is None for name in attributes) or (
        record.identity is None and None in record.headers.values()
    ):
        raise PoisonError(Reason("header_null", "", "a header has no value: KafkaSource drops such records"))
    headers = [
        (f"ce-{name[3:]}" if name.startswith("ce_") else name, value or b"")
        for name, value in record.headers.items()
        if name.startswith("ce_") or name == "content-type"
    ]
    if record.value is None and record.identity is None:
        raise PoisonError(
            Reason("tombstone", "", "the record has neither data nor the attributes of an event")
        )
    return cloudevent.from_http([(name.encode(), value) for name, value in headers], record.value or b"")


def identity(record: KafkaRecord) -> Identity | None:
    """The identity of the record's CloudEvent, in either mode. None where the record has none."""
    if not record.structured:
        return record.identity
    try:
        event = read(record)
    except PoisonError:
        return None
    return event.source, event.id


def replay(record: KafkaRecord) -> tuple[Identity, str]:
    """The identity of the event as it was first sent, and the value of its extension `replay`; texts are empty where
    the record has none."""
    if record.topic == topics.EVENTS:
        origin = record.attribute("originsource"), record.attribute("originid")
    else:
        origin = identity(record) or ("", "")
    if not record.structured:
        return origin, record.attribute("replay")
    try:
        return origin, read(record).extensions.get("replay", "")
    except PoisonError:
        return origin, ""


def received_event(record: KafkaRecord) -> parked_event.ReceivedEvent:
    """The record as a stage would have received it, for parking: with its place in the log. A record without an
    identity gets one made of its place."""
    attributes = {
        name[3:]: (value or b"").decode("latin-1")
        for name, value in record.headers.items()
        if name.startswith("ce_")
    }
    if record.identity is None:
        attributes |= {
            "type": cloudevent.FOREIGN_TYPE,
            "source": f"/orderflow/audit#{record.topic}",
            "id": f"partition:{record.partition}/offset:{record.offset}",
        }
    if record.key:
        attributes["key"] = record.key.decode("latin-1")
    place = {"knativekafkapartition": str(record.partition), "knativekafkaoffset": str(record.offset)}
    content_type = (record.headers.get("content-type") or b"").decode("latin-1")
    return parked_event.ReceivedEvent.of_parts(attributes | place, content_type, record.value or b"")


def parked_event_of(
    record: KafkaRecord,
    reason: Reason,
    revision: str,
    *,
    topic_id: str = "",
    max_payload: int = parked_event.MAX_PAYLOAD,
) -> CloudEvent:
    """The event that parks a record. The same record always gives the same event."""
    event = parked_event.parked(
        received_event(record),
        stage=STAGE,
        revision=revision,
        reasons=[reason],
        topic=record.topic,
        topic_id=topic_id,
        max_payload=max_payload,
    )
    return replace(event, time=record.written_at.isoformat().replace("+00:00", "Z"))
