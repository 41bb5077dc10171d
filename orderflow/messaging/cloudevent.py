"""CloudEvents 1.0 on the wire: HTTP in binary and structured mode, Kafka in binary mode.

The hot stages read hundreds of thousands of events a minute, so this module parses them itself. The tests compare its
results with the official SDK's.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote
from uuid import UUID

from orderflow.domain.orders import ORDER_ID_PATTERN
from orderflow.errors import PoisonError, Reason
from orderflow.messaging.places import OWN_EXTENSIONS, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMESPACE: Final = UUID("0d8f1d3c-6a1b-5f0e-9d0e-6f7264657273")
"""The namespace of every id that is derived (uuid5) from other ids."""

JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"
_CLOUDEVENTS: Final = "application/cloudevents"
FOREIGN_TYPE: Final = "dev.knative.kafka.event"
"""The type that KafkaSource gives to a record that is not a valid CloudEvent."""

# Printable ASCII without space: these values pass HTTP headers, Kafka headers and KafkaSource's Latin-1 unchanged.
ID: Final = re.compile(r"[\x21-\x7e]{1,256}")
# The specification recommends at most 20 characters; KafkaSource's own knativekafkapartition has 21.
EXTENSION: Final = re.compile(r"[a-z0-9]{1,64}")
SUBJECT: Final = re.compile(ORDER_ID_PATTERN)
MAX_EXTENSION_LENGTH: Final = 1024
MAX_EXTENSIONS: Final = 32
MAX_ATTRIBUTES_SIZE: Final = 8 * 1024
"""Bytes of the names and values of all attributes. Each attribute is an HTTP header, and a gateway has room for 100
headers and 60 KiB of them (Envoy's defaults). It answers 431 to an event with more, at the stage and at the dead-letter
sink, so that KafkaSource drops the event."""
_ADDED_ON_THE_WAY: Final = frozenset(
    {
        *("partitionkey", "traceparent", "tracestate", *OWN_EXTENSIONS),
        *("knativekafkapartition", "knativekafkaoffset"),
        *("knativeerrordest", "knativeerrorcode", "knativeerrordata"),
    }
)
"""Extensions that intake, operators' actions and KafkaSource add. They do not count, or an event that one stage has
taken could be too large for the next."""
_VARIANTS: Final = "89ab" * 4
"""The 17th hexadecimal digit of a UUID by its raw value: RFC 9562 sets its first two bits to 10."""
_MEDIA_TYPE: Final = re.compile(r"[\x20-\x7e]{1,256}")
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One CloudEvent: context attributes, and the data as bytes. time is RFC 3339, as it was sent.

    links are the traceparents of related traces. The span of the event's sending links to them; they are not sent.
    place is that of the record which KafkaSource delivered; it is not sent either.
    """

    type: str
    source: str
    id: str
    subject: str = ""
    time: str = ""
    data: bytes = b""
    content_type: str = JSON
    extensions: dict[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    place: Place | None = None

    @property
    def key(self) -> bytes:
        """The Kafka key: the order id."""
        return self.subject.encode()

    def with_extensions(self, **more: str) -> CloudEvent:
        return replace(self, extensions=self.extensions | more)

    def without_extensions(self, *names: str) -> CloudEvent:
        kept = {name: value for name, value in self.extensions.items() if name not in names}
        return self if len(kept) == len(self.extensions) else replace(self, extensions=kept)

    def delivered_from(self, topic_id: str) -> CloudEvent:
        """The event with its place, where KafkaSource names one."""
        place = Place.of_delivery(self.extensions, topic_id)
        return self if place is None else replace(self, place=place)

    def attributes(self) -> dict[str, str]:
        """All context attributes except datacontenttype; an attribute without a value is left out."""
        named = {"specversion": "1.0", "type": self.type, "source": self.source, "id": self.id}
        if self.subject:
            named["subject"] = self.subject
        if self.time:
            named["time"] = self.time
        return named | self.extensions

    def kafka_headers(self) -> list[tuple[str, str | bytes | None]]:
        """The record's headers in binary mode. The record's key is `key`."""
        named = self.attributes() | {"content-type": self.content_type}
        return [(name if name == "content-type" else f"ce_{name}", value) for name, value in named.items()]


def derived_id(*parts: str) -> str:
    """The uuid5 of the parts: the same parts always give the same id. It costs a third of uuid.uuid5."""
    name = "\x1f".join(parts).encode()
    digest = sha1(NAMESPACE.bytes + name, usedforsecurity=False).hexdigest()
    variant = _VARIANTS[int(digest[16], 16)]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(time: str) -> datetime:
    """An RFC 3339 time as a UTC datetime.

    Raises PoisonError where the text is not such a time, where it has no offset, and where the year is outside the
    range that every clock from here to the database can represent.
    """
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None or not _FIRST_YEAR <= parsed.year <= _LAST_YEAR:
        raise PoisonError(Reason("time_invalid", "time", "this is no RFC 3339 time with an offset"))
    return parsed.astimezone(UTC)


def from_http(
    headers: Iterable[tuple[bytes, bytes]], body: bytes, *, percent_encoded: bool = False
) -> CloudEvent:
    """The CloudEvent in a request; headers are lower-case names and raw values, as in ASGI.

    percent_encoded: the values of ce- headers are percent-encoded, as the CloudEvents HTTP binding demands. KafkaSource
    does not encode them, and an id such as `a%41` must stay the same from stage to stage.

    Raises PoisonError, which names the attribute, where the request has no CloudEvent or an attribute is not usable.
    """
    attributes, content_type = _from_headers(headers, percent_encoded=percent_encoded)
    if content_type != JSON:
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == STRUCTURED:
            return _structured(body)
        if media_type.startswith(_CLOUDEVENTS):
            raise PoisonError(
                Reason("not_a_cloudevent", "content-type", "only single events as JSON are read")
            )
    return checked(attributes, body, content_type or JSON)


def _from_headers(
    headers: Iterable[tuple[bytes, bytes]], *, percent_encoded: bool
) -> tuple[dict[str, str], str]:
    attributes: dict[str, str] = {}
    content_type = ""
    for name, value in headers:
        if name.startswith(b"ce-"):
            attribute, text = name[3:].decode("latin-1"), value.decode("latin-1")
            if attribute in attributes:
                raise _unusable(attribute, "this came twice")
            attributes[attribute] = unquote(text) if percent_encoded and "%" in text else text
        elif name == b"content-type":
            content_type = value.decode("latin-1")
    return attributes, content_type


def _structured(body: bytes) -> CloudEvent:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise PoisonError(Reason("json_invalid", "", "the body is not JSON")) from None
    if not isinstance(document, dict):
        raise PoisonError(Reason("not_a_cloudevent", "", "a structured CloudEvent is a JSON object"))
    data = _data_of(document)
    content_type = document.pop("datacontenttype", None) or JSON
    # An attribute with the value null counts as absent.
    attributes = {name: value for name, value in document.items() if value is not None}
    for name, value in attributes.items():
        if not isinstance(value, str | int | bool):
            raise _unusable(name, "an attribute's value is text")
    if not isinstance(content_type, str):
        raise _unusable("datacontenttype", "this is not text")
    return checked({name: _text(value) for name, value in attributes.items()}, data, content_type)


def _data_of(document: dict[str, Any]) -> bytes:
    """Removes the data from a structured event's document and returns it as bytes."""
    if "data_base64" in document:
        if "data" in document:
            raise PoisonError(Reason("data_invalid", "data", "data and data_base64 exclude each other"))
        try:
            return base64.b64decode(document.pop("data_base64"), validate=True)
        except (TypeError, ValueError):
            raise PoisonError(Reason("data_invalid", "data_base64", "this is not base64")) from None
    if "data" not in document:
        return b""
    try:
        text = json.dumps(document.pop("data"), separators=(",", ":"), ensure_ascii=False)
    except RecursionError:
        raise PoisonError(Reason("json_invalid", "data", "this is nested too deeply")) from None
    return text.encode(errors="surrogatepass")


def _unusable(attribute: str, text: str) -> PoisonError:
    """The name comes from outside, so the error shows it as printable ASCII and cuts it."""
    return PoisonError(Reason("attribute_invalid", ascii(attribute[:64])[1:-1], text))


@lru_cache(maxsize=1024)
def _is_extension(name: str) -> bool:
    return EXTENSION.fullmatch(name) is not None


def _text(value: str | bool | int) -> str:
    """The canonical text of an attribute's value, by the CloudEvents specification."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _check_extensions(extensions: dict[str, str], size: int) -> None:
    """size is that of all other attributes, in bytes."""
    count = 0
    for name, value in extensions.items():
        if not (
            _is_extension(name)
            and value.isascii()
            and value.isprintable()
            and len(value) <= MAX_EXTENSION_LENGTH
        ):
            raise _unusable(
                name,
                f"extension names are [a-z0-9], values printable ASCII of at most {MAX_EXTENSION_LENGTH} characters",
            )
        if name in _ADDED_ON_THE_WAY:
            continue
        count += 1
        size += len(name) + len(value)
        if count > MAX_EXTENSIONS:
            raise _unusable(name, f"an event has at most {MAX_EXTENSIONS} extension attributes")
        if size > MAX_ATTRIBUTES_SIZE:
            raise _unusable(name, f"the attributes of an event have at most {MAX_ATTRIBUTES_SIZE} bytes")


def checked(attributes: dict[str, str], data: bytes, content_type: str) -> CloudEvent:
    """A CloudEvent that every later stage can pass on. Raises PoisonError, which names the bad attribute."""
    if attributes.pop("specversion", None) != "1.0":
        raise PoisonError(
            Reason("not_a_cloudevent", "specversion", "this is no CloudEvent of specversion 1.0")
        )
    attributes.pop("datacontenttype", None)
    required: list[str] = []
    for name in ("type", "source", "id"):
        value = attributes.pop(name, "")
        if not ID.fullmatch(value):
            raise _unusable(name, "this takes 1 to 256 printable ASCII characters, no spaces")
        required.append(value)
    if required[0] == FOREIGN_TYPE:
        raise PoisonError(Reason("not_a_cloudevent", "type", "the Kafka record was no valid CloudEvent"))
    subject = attributes.pop("subject", "")
    if subject and not SUBJECT.fullmatch(subject):
        raise _unusable("subject", "an order id is 1 to 64 letters, digits, dots, _ or -")
    time = attributes.pop("time", "")
    if time:
        moment(time)
    _check_extensions(attributes, sum(map(len, (*required, subject, time, content_type))))
    # The next stage would read a record with such a content-type as a structured event.
    if content_type != JSON and (
        not _MEDIA_TYPE.fullmatch(content_type) or content_type.strip().lower().startswith(_CLOUDEVENTS)
    ):
        raise _unusable("datacontenttype", "this is no type of data that an event can carry")
    event_type, source, event_id = required
    return CloudEvent(event_type, source, event_id, subject, time, data, content_type, attributes)
