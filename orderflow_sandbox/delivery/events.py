"""From a Kafka record to the HTTP request that KafkaSource makes of it. Pure.

A record that is a valid CloudEvent, binary or structured, goes out in HTTP binary mode; anything
else, malformed `ce_` headers included, as `dev.knative.kafka.event`. The rules are those of the
CloudEvents SDK for Java and of the data plane's deserializer and interceptors.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Headers = list[tuple[str, bytes | None]]

_CONTENT_TYPE: Final = "content-type"
_STRUCTURED: Final = "application/cloudevents+json"
_VERSIONS: Final = frozenset({"0.3", "1.0"})
_REQUIRED: Final = ("id", "source", "type")
_ATTRIBUTES: Final = frozenset(
    {"id", "source", "type", "subject", "time", "dataschema", "schemaurl", "datacontenttype"}
)
_EXTENSION = re.compile(r"[a-z0-9]+")
_NOT_IN_A_URI = re.compile(r'[\x00-\x20\x7f<>"{}|\\^`]|%(?![0-9A-Fa-f]{2})')
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)",
)
_JSON_CONTENT = re.compile(r"(application|text)/([a-zA-Z0-9\-.]+\+)?json(;.*)?")
_REFUSED_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ERROR_DATA_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Record:
    """What of a Kafka record matters here. timestamp is in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Origin:
    """The KafkaSource that delivers: it names the source of wrapped records."""

    namespace: str
    name: str
    extensions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """attributes by CloudEvents name without prefix, `datacontenttype` among them.

    data is None where the request has no body and no content-length at all. sendable is False
    where an HTTP header cannot carry the event, so that every attempt fails before it starts.
    """

    attributes: dict[str, str]
    data: bytes | None
    sendable: bool = True


class NoCloudEventError(Exception):
    """The record does not follow the Kafka binding of CloudEvents."""


class IllegalExtensionError(Exception):
    """An answer carries a `Kne-` header whose rest is no name of an extension."""


def events_of_poll(records: Sequence[Record], origin: Origin) -> list[Event | None]:
    """One event per record; None is a record that is discarded, its offset committed.

    A null-valued header on a record that is no CloudEvent breaks the interceptor that wraps such
    records, for the whole poll: every other record of the poll that needed wrapping is discarded
    with it. A null-valued `ce_` header or content-type makes a CloudEvent such a record.
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
            events.append(_finished(event, record, origin))
    if not poisoned:
        for index in to_wrap:
            record = records[index]
            events[index] = _finished(wrapped(record, origin), record, origin)
    return events


def _finished(event: Event, record: Record, origin: Origin) -> Event:
    attributes = event.attributes
    attributes["knativekafkapartition"] = str(record.partition)
    attributes["knativekafkaoffset"] = str(record.offset)
    if origin.extensions:
        attributes.update(origin.extensions)
    if record.key is not None and b"\0" in record.key:
        return Event(attributes, event.data, sendable=False)
    return event


def cloud_event(record: Record) -> Event:
    """The CloudEvent that the record is; NoCloudEventError if it is none."""
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
    """A record that is no CloudEvent, as `dev.knative.kafka.event`. No header may be null."""
    attributes = {
        "specversion": "1.0",
        "id": f"partition:{record.partition}/offset:{record.offset}",
        "source": f"/apis/v1/namespaces/{origin.namespace}/kafkasources/{origin.name}#{record.topic}",
        "type": "dev.knative.kafka.event",
        "subject": f"partition:{record.partition}#{record.offset}",
        "time": _written_time(record.timestamp),
    }
    if record.key:
        attributes["key"] = attributes["partitionkey"] = record.key.decode("utf-8", "replace")
    for key, value in record.headers:
        text = (value or b"").decode("utf-8", "replace")
        if key.lower() == _CONTENT_TYPE:
            attributes["datacontenttype"] = text.lower()
        else:
            name = "".join(char for char in key.lower() if _EXTENSION.fullmatch(char))
            attributes["kafkaheader" + name] = text
    if record.value is None:
        attributes.pop("datacontenttype", None)
    return Event(attributes, record.value)


def dead_letter(
    event: Event,
    destination: str,
    *,
    status: int | None,
    headers: Iterable[tuple[str, str]],
    body: bytes,
) -> Event:
    """The event as its dead-letter sink gets it.

    status is None after a timeout or a refused connection. `Kne-X` headers of the answer become
    extensions; an illegal one raises IllegalExtensionError.
    """
    attributes = dict(event.attributes, specversion="1.0", knativeerrordest=destination)
    if "schemaurl" in attributes:
        attributes["dataschema"] = attributes.pop("schemaurl")
    if status is not None:
        attributes["knativeerrorcode"] = str(status)
        for name, value in headers:
            if name[:4].lower() == "kne-":
                extension = name[4:].lower()
                if not _EXTENSION.fullmatch(extension):
                    raise IllegalExtensionError(name)
                attributes[extension] = value
        if body:
            data = base64.b64encode(body[:_ERROR_DATA_BYTES]).decode("ascii")
            attributes["knativeerrordata"] = data
    return Event(attributes, event.data, event.sendable)


def head_of(event: Event) -> bytes | None:
    """The event's own HTTP headers, each line ended; None where HTTP cannot carry them.

    Values go out as Latin-1, what has no place there as `?` (measured: é is one byte 0xE9). Two
    for a character outside the Basic Multilingual Plane, which is two chars in Java.
    """
    if not event.sendable:
        return None
    lines: list[str] = []
    for name, value in event.attributes.items():
        if not value.isprintable() and _REFUSED_IN_A_HEADER.search(value):
            return None
        if name == "datacontenttype":
            lines.append(f"content-type: {value}\r\n")
        else:
            lines.append(f"ce-{name}: {value}\r\n")
    if event.data is not None:
        lines.append(f"content-length: {len(event.data)}\r\n")
    text = "".join(lines)
    if text.isascii():
        return text.encode("ascii")
    return b"".join(char.encode("latin-1", "replace") if char <= "\uffff" else b"??" for char in text)


@lru_cache(maxsize=4096)
def _attribute_name(key: str) -> str | None:
    """The attribute a header carries: "" is the content type, None a header of no concern."""
    if key == _CONTENT_TYPE:
        return ""
    if len(key) > len("ce_") and key.startswith("ce_"):
        return key[3:].lower()
    return None


@lru_cache(maxsize=4096)
def _legal_names(names: frozenset[str]) -> bool:
    return all(_EXTENSION.fullmatch(name) for name in names)


def _check(attributes: dict[str, str]) -> None:
    """NoCloudEventError unless the SDK would build an event of these; rewrites the time as it does."""
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
        attributes["time"] = _read_time(attributes["time"])


def _read_time(text: str) -> str:
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


def _written_time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return _read_time(moment.isoformat(timespec="milliseconds"))


def _structured(value: bytes | None) -> Event:
    try:
        node = json.loads(value or b"", parse_constant=_refuse)
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
    """Takes data out of the node. JSON is written again, compactly, as the SDK does."""
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


def _refuse(constant: str) -> object:
    raise ValueError(constant)
