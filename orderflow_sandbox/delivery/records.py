"""From a Kafka record to the event that KafkaSource makes of it. Pure.

A record that is a valid CloudEvent, binary or structured, becomes that event. Any other record becomes a
`dev.knative.kafka.event`, also one with malformed `ce_` headers. The rules are those of the CloudEvents SDK for Java
4.0.1 and of the data plane's deserializer, interceptors and tracing (measured: eventing-kafka-broker 0.50.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from orderflow.messaging.kafka_source import normalised_time
from orderflow_sandbox.delivery.attributes import Attributes, NoCloudEventError, decoded
from orderflow_sandbox.delivery.events import EXTENSION, Event
from orderflow_sandbox.delivery.structured import structured
from orderflow_sandbox.delivery.trace import context_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Headers = list[tuple[str, bytes | None]]

_CONTENT_TYPE: Final = "content-type"
_CLOUDEVENTS: Final = "application/cloudevents"
_STRUCTURED: Final = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Record:
    """`timestamp` is in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Origin:
    """The KafkaSource that delivers. Its name is part of the source of wrapped records."""

    namespace: str
    name: str
    extensions: Mapping[str, str]


def events_of_poll(records: Sequence[Record], origin: Origin) -> list[Event | None]:
    """One event per record. None is for a record that is discarded and whose offset is committed.

    A header whose value is null discards its record: the data plane's tracing fails at it. Where the record is no
    CloudEvent, the interceptor that wraps records fails first, and for the whole poll: every record of the poll that
    has to be wrapped is discarded. A CloudEvent whose `ce_` header or content-type is null has to be wrapped, too.
    """
    events: list[Event | None] = []
    to_wrap: list[int] = []
    poisoned = False
    for index, record in enumerate(records):
        has_null = any(value is None for _, value in record.headers)
        try:
            event = cloud_event(record)
        except NoCloudEventError:
            to_wrap.append(index)
            events.append(None)
            poisoned = poisoned or has_null
        else:
            events.append(None if has_null else _with_origin(event, record, origin))
    if not poisoned:
        for index in to_wrap:
            record = records[index]
            events[index] = _with_origin(wrapped(record, origin), record, origin)
    return events


def _with_origin(event: Event, record: Record, origin: Origin) -> Event:
    attributes = event.attributes
    attributes["knativekafkapartition"] = str(record.partition)
    attributes["knativekafkaoffset"] = str(record.offset)
    if origin.extensions:
        attributes.update(origin.extensions)
    return Event(attributes, event.data, context_of(record.headers))


def cloud_event(record: Record) -> Event:
    """The record as a CloudEvent. Raises NoCloudEventError where it is none.

    The last content-type and the last ce_specversion say how the record is read. Then each header is read in its turn:
    the last of a name counts, but each must be legal. content-type and ce_datacontenttype are one attribute. Only
    ce_specversion and the prefix are told apart by case.
    """
    last = dict(record.headers)
    content_type = _text(last[_CONTENT_TYPE]) if _CONTENT_TYPE in last else ""
    if content_type.partition(";")[0] == _STRUCTURED:
        return structured(record.value)
    if content_type.startswith(_CLOUDEVENTS) or "ce_specversion" not in last:
        raise NoCloudEventError
    attributes = Attributes(_text(last["ce_specversion"]))
    for key, value in record.headers:
        name = _attribute_name(key)
        if name is not None:
            attributes.put(name, _text(value))
    attributes.check_required()
    return Event(attributes.values, record.value or None)


def _text(value: bytes | None) -> str:
    if value is None:
        raise NoCloudEventError
    return decoded(value)


def wrapped(record: Record, origin: Origin) -> Event:
    """A record that is no CloudEvent as a `dev.knative.kafka.event`. None of its headers may be null."""
    attributes = {
        "specversion": "1.0",
        "id": f"partition:{record.partition}/offset:{record.offset}",
        "source": f"/apis/v1/namespaces/{origin.namespace}/kafkasources/{origin.name}#{record.topic}",
        "type": "dev.knative.kafka.event",
        "subject": f"partition:{record.partition}#{record.offset}",
        "time": _timestamp(record.timestamp),
    }
    if record.key:
        attributes["key"] = attributes["partitionkey"] = decoded(record.key)
    for key, value in record.headers:
        text = decoded(value or b"")
        if key.lower() == _CONTENT_TYPE:
            attributes["datacontenttype"] = text.lower()
        else:
            name = "".join(char for char in key.lower() if EXTENSION.fullmatch(char))
            attributes["kafkaheader" + name] = text
    return Event(attributes, record.value)


@lru_cache(maxsize=4096)
def _attribute_name(key: str) -> str | None:
    """The attribute that a header carries; None where it carries none."""
    if key == _CONTENT_TYPE:
        return "datacontenttype"
    if len(key) > len("ce_") and key.startswith("ce_"):
        name = key[3:].lower()
        return None if name == "specversion" else name
    return None


def _timestamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return normalised_time(moment.isoformat(timespec="milliseconds")) or ""
