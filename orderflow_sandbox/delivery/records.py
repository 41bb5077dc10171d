"""From a Kafka record to the event that KafkaSource makes of it. Pure.

A record that is a valid CloudEvent, binary or structured, becomes that event. Any other record becomes a
`dev.knative.kafka.event`, also one with malformed `ce_` headers. The rules are those of the CloudEvents SDK for Java
and of the data plane's deserializer and interceptors.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from orderflow_sandbox.delivery.events import EXTENSION, Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Headers = list[tuple[str, bytes | None]]

_CONTENT_TYPE: Final = "content-type"
_STRUCTURED: Final = "application/cloudevents+json"
_VERSIONS: Final = frozenset({"0.3", "1.0"})
_REQUIRED: Final = ("id", "source", "type")
_ATTRIBUTES: Final = frozenset(
    {"id", "source", "type", "subject", "time", "dataschema", "schemaurl", "datacontenttype"}
)
_NOT_IN_A_URI = re.compile(r'[\x00-\x20\x7f<>"{}|\\^`]|%(?![0-9A-Fa-f]{2})')
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)",
)
_JSON_CONTENT = re.compile(r"(application|text)/([a-zA-Z0-9\-.]+\+)?json(;.*)?")


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


class NoCloudEventError(Exception):
    """The record does not follow the Kafka binding of CloudEvents."""


def events_of_poll(records: Sequence[Record], origin: Origin) -> list[Event | None]:
    """One event per record. None is for a record that is discarded and whose offset is committed.

    The interceptor that wraps records that are no CloudEvents fails at a header whose value is null. It fails for the
    whole poll: every record of the poll that has to be wrapped is discarded. A CloudEvent with a null `ce_` header or
    content-type has to be wrapped, too.
    """
    events: list[Event | None] = []
    to_wrap: list[int] = []
    poisoned = False
    for index, record in enumerate(records):
        try:
            event = cloud_event(record)
        except NoCloudEventError:
            to_wrap.append(index)
            events.append(None)
            poisoned = poisoned or any(value is None for _, value in record.headers)
        else:
            events.append(_with_origin(event, record, origin))
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
    if record.key is not None and b"\0" in record.key:
        return Event(attributes, event.data, sendable=False)
    return event


def cloud_event(record: Record) -> Event:
    """The record as a CloudEvent. Raises NoCloudEventError where it is none."""
    attributes: dict[str, str] = {}
    content_type: str | None = None
    readable = True
    for key, value in record.headers:
        name = _attribute_name(key)
        if name is None:
            continue
        if value is None:
            readable = False
        elif name:
            attributes[name] = value.decode("utf-8", "replace")
        else:
            content_type = value.decode("utf-8", "replace")
    if content_type is not None and content_type.partition(";")[0].strip() == _STRUCTURED:
        return _structured(record.value)
    if not readable or attributes.get("specversion") not in _VERSIONS:
        raise NoCloudEventError
    if content_type is not None:
        attributes.setdefault("datacontenttype", content_type)
    _check(attributes)
    if not record.value:
        # A tombstone has neither content-type nor content-length (measured).
        attributes.pop("datacontenttype", None)
        return Event(attributes, None)
    return Event(attributes, record.value)


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
        attributes["key"] = attributes["partitionkey"] = record.key.decode("utf-8", "replace")
    for key, value in record.headers:
        text = (value or b"").decode("utf-8", "replace")
        if key.lower() == _CONTENT_TYPE:
            attributes["datacontenttype"] = text.lower()
        else:
            name = "".join(char for char in key.lower() if EXTENSION.fullmatch(char))
            attributes["kafkaheader" + name] = text
    if record.value is None:
        attributes.pop("datacontenttype", None)
    return Event(attributes, record.value)


@lru_cache(maxsize=4096)
def _attribute_name(key: str) -> str | None:
    """The attribute that a header carries; "" is the content type, None is no attribute."""
    if key == _CONTENT_TYPE:
        return ""
    if len(key) > len("ce_") and key.startswith("ce_"):
        return key[3:].lower()
    return None


@lru_cache(maxsize=4096)
def _legal_names(names: frozenset[str]) -> bool:
    return all(EXTENSION.fullmatch(name) for name in names)


def _check(attributes: dict[str, str]) -> None:
    """Raises NoCloudEventError where the SDK would not build an event. Rewrites the time as the SDK does."""
    try:
        for name in _REQUIRED:
            if not attributes[name]:
                raise NoCloudEventError
    except KeyError as error:
        raise NoCloudEventError from error
    if not _legal_names(frozenset(attributes)):
        raise NoCloudEventError
    if _NOT_IN_A_URI.search(attributes["source"]):
        raise NoCloudEventError
    for name in ("dataschema", "schemaurl"):
        if name in attributes and _NOT_IN_A_URI.search(attributes[name]):
            raise NoCloudEventError
    if "time" in attributes:
        attributes["time"] = _normalized_time(attributes["time"])


def _normalized_time(text: str) -> str:
    match = _TIME.fullmatch(text)
    if match is None:
        raise NoCloudEventError
    date, clock, fraction, zone = match.groups()
    zone = "Z" if zone in {"z", "+00:00", "-00:00"} else zone
    try:
        datetime.fromisoformat(f"{date}T{clock}{zone}")
    except ValueError as error:
        raise NoCloudEventError from error
    fraction = (fraction or "").rstrip("0")
    return f"{date}T{clock}.{fraction}{zone}" if fraction else f"{date}T{clock}{zone}"


def _timestamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return _normalized_time(moment.isoformat(timespec="milliseconds"))


def _structured(value: bytes | None) -> Event:
    try:
        node = json.loads(value or b"", parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise NoCloudEventError from error
    if not isinstance(node, dict) or str(node.get("specversion")) not in _VERSIONS:
        raise NoCloudEventError
    attributes: dict[str, str] = {}
    data = _structured_data(node)
    for name, content in node.items():
        if isinstance(content, str):
            attributes[name] = content
        elif name in _ATTRIBUTES:
            raise NoCloudEventError
        else:
            attributes[name] = _json(content)
    _check(attributes)
    return Event(attributes, data)


def _structured_data(node: dict[str, Any]) -> bytes | None:
    """Removes the data from the node. JSON is written compactly, as the SDK does."""
    if "data" in node and "data_base64" in node:
        raise NoCloudEventError
    old_base64 = node.pop("datacontentencoding", None) == "base64"
    content_type = node.get("datacontenttype")
    if "data_base64" in node or (old_base64 and "data" in node):
        encoded = node.pop("data_base64", None) or node.pop("data", None)
        try:
            return base64.b64decode(encoded, validate=True)
        except (ValueError, TypeError) as error:
            raise NoCloudEventError from error
    if "data" not in node:
        return None
    data = node.pop("data")
    if content_type is None or (isinstance(content_type, str) and _JSON_CONTENT.fullmatch(content_type)):
        return _json(data).encode("utf-8", "replace")
    if not isinstance(data, str):
        raise NoCloudEventError
    return data.encode("utf-8", "replace")


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _reject_constant(constant: str) -> object:
    raise ValueError(constant)
