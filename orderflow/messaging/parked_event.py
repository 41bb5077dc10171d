"""Parked events: what a stage could not handle, kept whole with the reasons and the place, for an operator to fix."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from orderflow.domain.events import parse, type_of
from orderflow.domain.orders import Frozen
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent as ce
from orderflow.messaging import topics, trace_context
from orderflow.messaging.cloudevent import CloudEvent, derived_id
from orderflow.messaging.makers import MAKERS
from orderflow.messaging.places import OWN_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orderflow.messaging.publisher import Publisher

SOURCE: Final = "/orderflow/park"
TOPIC_OF: Final = {
    "validate": topics.INBOX,
    "track": topics.EVENTS,
    "notify": topics.STATUS,
    "shelve": topics.PARKED,
}
OVERTAKEN: Final = "overtaken"
"""The code of the reason for which track parks an event that comes after a later one of its source was decided."""
_STAGE_IN_URL: Final = re.compile(r"^https?://([a-z0-9-]{1,63})(?![a-z0-9-])")
_FORWARDED: Final = re.compile(r"(ce-.*|content-type)")

# A parked event must fit into its topic (topics.MAX_BYTES), however large the received event is.
MAX_PAYLOAD: Final = 1_200_000
FALLBACK_PAYLOAD: Final = 100_000
"""A payload that fits into a topic with Kafka's default max.message.bytes."""
_MAX_ATTRIBUTES: Final = 64
_MAX_NAME: Final = 64
_MAX_VALUE: Final = 2048  # knativeerrordata has up to 1368
_KNOWN_ATTRIBUTES: Final = frozenset(
    {"type", "source", "id", "subject", "time", "partitionkey", "key", "sequence", *OWN_EXTENSIONS, *MAKERS}
    | {f"knativekafka{name}" for name in ("partition", "offset")}
    | {f"knativeerror{name}" for name in ("dest", "code", "data")}
)
_INTEGER: Final = 2**31 - 1
_BIGINT: Final = 2**63 - 1
_MAX_HTTP_CODE: Final = 999


def _decoded(text: object) -> bytes:
    """Raises an error for characters that are not base64: pydantic's Base64Bytes skips them and so loses bytes."""
    if not isinstance(text, str):
        raise ValueError("this is not text")  # noqa: TRY004 - what pydantic makes a fault of
    return base64.b64decode(text, validate=True)


class Parked(Frozen):
    """The data of a parked event. payload is the original record's own bytes.

    topic, topic_id, partition and offset are the record's place, as far as it is known.
    """

    stage: str
    revision: str
    reasons: Annotated[tuple[Reason, ...], Field(min_length=1)]
    attributes: dict[str, str]
    content_type: str
    topic: str = ""
    topic_id: str = ""
    partition: Annotated[int, Field(ge=0, le=_INTEGER)] | None = None
    offset: Annotated[int, Field(ge=0, le=_BIGINT)] | None = None
    http_code: Annotated[int, Field(ge=0, le=_MAX_HTTP_CODE)] | None = None
    payload: Annotated[
        bytes,
        BeforeValidator(_decoded),
        WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
    ]


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """A request as it was received, whether it is a CloudEvent or not.

    attributes are the values of the ce- headers by name. Their number and length are limited, and a character that is
    not printable is escaped as in Python.
    """

    attributes: dict[str, str]
    content_type: str
    body: bytes

    @classmethod
    def of_request(cls, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> ReceivedEvent:
        texts = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if _FORWARDED.fullmatch(name.decode("latin-1"))
        }
        content_type = texts.pop("content-type", "")
        return cls.of_parts({name[3:]: value for name, value in texts.items()}, content_type, body)

    @classmethod
    def of_parts(cls, attributes: dict[str, str], content_type: str, body: bytes) -> ReceivedEvent:
        return cls(_limited(attributes), _printable(content_type, _MAX_VALUE), body)

    @classmethod
    def of_cloudevent(cls, event: CloudEvent) -> ReceivedEvent:
        return cls(_limited(event.attributes()), event.content_type, event.data)

    @property
    def order_id(self) -> str:
        """The order id from the attributes or the record's key; empty where neither has one."""
        for name in ("subject", "partitionkey", "key"):
            value = self.attributes.get(name, "")
            if ce.SUBJECT.fullmatch(value):
                return value
        return ""


def _limited(attributes: dict[str, str]) -> dict[str, str]:
    known_first = sorted(attributes.items(), key=lambda each: each[0] not in _KNOWN_ATTRIBUTES)
    return {
        _printable(name, _MAX_NAME): _printable(value, _MAX_VALUE)
        for name, value in known_first[:_MAX_ATTRIBUTES]
    }


def _printable(text: str, limit: int) -> str:
    """PostgreSQL stores no NUL and no terminal should be sent a control character."""
    if text.isprintable():
        return text[:limit]
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:limit])[:limit]


def parked(
    received: ReceivedEvent,
    *,
    stage: str,
    revision: str,
    reasons: Sequence[Reason],
    http_code: int | None = None,
    topic: str | None = None,
    topic_id: str = "",
    max_payload: int = MAX_PAYLOAD,
) -> CloudEvent:
    """The event that parks a received event of a topic (None: the stage's topic), with max_payload bytes of its body.

    The same received event at the same stage, for the same reason, always gets the same id. The place in the topic is
    not part of the id, because a redelivery may have another place.
    """
    partition, offset = (
        received.attributes.get(f"knativekafka{name}", "") for name in ("partition", "offset")
    )
    identity = [received.attributes.get(name, "") for name in ("source", "id")]
    content = hashlib.sha256(received.body).hexdigest()
    order_id = received.order_id
    reason_list = [asdict(reason) for reason in reasons]
    if len(received.body) > max_payload:
        text = f"only the first {max_payload} bytes are kept here; the record's place has all of them"
        reason_list.append(asdict(Reason("payload_cut", "payload", text)))
    data = {
        "stage": stage,
        "revision": revision,
        "reasons": reason_list,
        "attributes": received.attributes,
        "content_type": received.content_type,
        "topic": TOPIC_OF.get(stage, "") if topic is None else topic,
        "topic_id": topic_id,
        "partition": _number(partition, _INTEGER),
        "offset": _number(offset, _BIGINT),
        "http_code": http_code,
        "payload": base64.b64encode(received.body[:max_payload]).decode(),
    }
    return CloudEvent(
        type=type_of("parked"),
        source=SOURCE,
        id=derived_id("parked", stage, *identity, content, reasons[0].code),
        subject=order_id,
        time=ce.now(),
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode(),
        extensions=({"partitionkey": order_id} if order_id else {})
        | trace_context.extract(received.attributes),
    )


def failed_stage(received: ReceivedEvent) -> str:
    """The stage that a dead letter failed at, which KafkaSource names in `knativeerrordest`; `unknown` without it."""
    url = _STAGE_IN_URL.match(received.attributes.get("knativeerrordest", ""))
    return url[1] if url else "unknown"


def dead_letter(
    received: ReceivedEvent, revision: str, *, topic_id: str = "", max_payload: int = MAX_PAYLOAD
) -> CloudEvent:
    """The parked event of a dead letter. KafkaSource names the stage and the stage's answer in `knativeerror*`.

    topic_id is that of the failed stage's topic.
    """
    code = _number(received.attributes.get("knativeerrorcode", ""), _MAX_HTTP_CODE)
    text = (
        f"the stage answered {code}" if code else "the stage did not answer in time or could not be reached"
    )
    return parked(
        received,
        stage=failed_stage(received),
        revision=revision,
        reasons=[_reason_from_response(received) or Reason("dead_letter", "", text)],
        http_code=code,
        topic_id=topic_id,
        max_payload=max_payload,
    )


async def publish(publisher: Publisher, build: Callable[[int], CloudEvent]) -> CloudEvent:
    """Publishes a parked event with its whole payload or, where the topic takes no record of that size, with the
    beginning of the payload. build makes the event with at most so many bytes of payload.

    Returns the event that Kafka confirmed. Raises TransientError where Kafka confirms none.
    """
    event = build(MAX_PAYLOAD)
    try:
        await publisher.publish(topics.PARKED, [event])
    except PoisonError:
        event = build(FALLBACK_PAYLOAD)
        await publisher.publish(topics.PARKED, [event])
    return event


def _reason_from_response(received: ReceivedEvent) -> Reason | None:
    """The reason that a stage of ours gave in its response. KafkaSource passes the response on in base64."""
    try:
        response = json.loads(base64.b64decode(received.attributes.get("knativeerrordata", "")))
        return Reason(_printable(str(response["code"]), 64), "", _printable(str(response["title"]), 200))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _number(text: str, maximum: int) -> int | None:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(maximum))
    return int(text) if digits and int(text) <= maximum else None


def read(event: CloudEvent) -> Parked:
    """The data of a parked event. Raises PoisonError where it is another event's data, or where PostgreSQL cannot
    store it."""
    if event.type != type_of("parked"):
        raise PoisonError(Reason("type_unknown", "type", "only parked events are shelved"))
    ce.moment(event.time)
    parked = parse(Parked, event.data)
    texts = [parked.stage, parked.revision, parked.topic, parked.topic_id, parked.content_type]
    texts += [text for reason in parked.reasons for text in (reason.code, reason.field, reason.text)]
    texts += [text for attribute in parked.attributes.items() for text in attribute]
    if any("\0" in text for text in texts):
        raise PoisonError(Reason("text_invalid", "", "a text has a NUL, which PostgreSQL cannot store"))
    return parked
