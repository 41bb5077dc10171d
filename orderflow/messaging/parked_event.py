"""Parked events: what cannot be handled, kept whole, with why and where, for an operator to mend."""

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
from orderflow.messaging.cloudevent import Envelope, derived_id

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
_STAGE_IN_URL: Final = re.compile(r"^https?://([a-z0-9-]{1,63})(?![a-z0-9-])")
_FORWARDED: Final = re.compile(r"(ce-.*|content-type)")

# A parked event must fit into its topic (topics.MAX_BYTES) whatever came in, or it could never be parked.
MOST_PAYLOAD: Final = 1_200_000
FITS_ANYWHERE: Final = 100_000
"""A payload that a parked topic takes whose max.message.bytes nobody has raised."""
_MOST_ATTRIBUTES: Final = 64
_LONGEST_NAME: Final = 64
_LONGEST_VALUE: Final = 2048  # knativeerrordata has up to 1368
_OWN: Final = frozenset(
    {"type", "source", "id", "subject", "time", "partitionkey", "key"}
    | {f"knativekafka{name}" for name in ("partition", "offset")}
    | {f"knativeerror{name}" for name in ("dest", "code", "data")}
)
_INTEGER: Final = 2**31 - 1
_BIGINT: Final = 2**63 - 1
_LARGEST_CODE: Final = 999


def _decoded(text: object) -> bytes:
    """pydantic's Base64Bytes skips what is no base64, and so would lose bytes without a word."""
    if not isinstance(text, str):
        raise ValueError("this is not text")  # noqa: TRY004 - what pydantic makes a fault of
    return base64.b64decode(text, validate=True)


class Parked(Frozen):
    """The data of a parked event. payload is the original record's own bytes.

    topic, partition and offset are the record's place, where KafkaSource told it.
    """

    stage: str
    revision: str
    reasons: Annotated[tuple[Reason, ...], Field(min_length=1)]
    attributes: dict[str, str]
    content_type: str
    topic: str = ""
    partition: Annotated[int, Field(ge=0, le=_INTEGER)] | None = None
    offset: Annotated[int, Field(ge=0, le=_BIGINT)] | None = None
    http_code: Annotated[int, Field(ge=0, le=_LARGEST_CODE)] | None = None
    payload: Annotated[
        bytes,
        BeforeValidator(_decoded),
        WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
    ]


@dataclass(frozen=True, slots=True)
class Letter:
    """What came in, read only as far as it could be: attributes by name, as they were sent, except that what
    cannot be printed is shown as Python would, and that there is an end to their number and length.
    """

    attributes: dict[str, str]
    content_type: str
    body: bytes

    @classmethod
    def of_request(cls, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Letter:
        texts = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if _FORWARDED.fullmatch(name.decode("latin-1"))
        }
        content_type = texts.pop("content-type", "")
        return cls.of_parts({name[3:]: value for name, value in texts.items()}, content_type, body)

    @classmethod
    def of_parts(cls, attributes: dict[str, str], content_type: str, body: bytes) -> Letter:
        return cls(_kept(attributes), _shown(content_type, _LONGEST_VALUE), body)

    @classmethod
    def of_envelope(cls, event: Envelope) -> Letter:
        return cls(_kept(event.attributes()), event.content_type, event.data)

    @property
    def order_id(self) -> str:
        """The order id where the attributes or the record's key tell one, else empty."""
        for name in ("subject", "partitionkey", "key"):
            value = self.attributes.get(name, "")
            if ce.SUBJECT.fullmatch(value):
                return value
        return ""


def _kept(attributes: dict[str, str]) -> dict[str, str]:
    ours_first = sorted(attributes.items(), key=lambda each: each[0] not in _OWN)
    return {
        _shown(name, _LONGEST_NAME): _shown(value, _LONGEST_VALUE)
        for name, value in ours_first[:_MOST_ATTRIBUTES]
    }


def _shown(text: str, most: int) -> str:
    """PostgreSQL stores no NUL and no terminal should be sent a control character."""
    if text.isprintable():
        return text[:most]
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:most])[:most]


def parked(
    letter: Letter,
    *,
    stage: str,
    revision: str,
    reasons: Sequence[Reason],
    http_code: int | None = None,
    topic: str | None = None,
    most: int = MOST_PAYLOAD,
) -> Envelope:
    """The event that parks a letter of a topic (None: the stage's), with `most` bytes of its payload.

    The same letter at the same stage, for the same reason, always gets the same id: a place in the topic is not
    part of it, for a redelivery may have another.
    """
    place = [letter.attributes.get(f"knativekafka{name}", "") for name in ("partition", "offset")]
    identity = [letter.attributes.get(name, "") for name in ("source", "id")]
    content = hashlib.sha256(letter.body).hexdigest()
    order_id = letter.order_id
    told = [asdict(reason) for reason in reasons]
    if len(letter.body) > most:
        text = f"only the first {most} bytes are kept here; the record's place has all of them"
        told.append(asdict(Reason("payload_cut", "payload", text)))
    data = {
        "stage": stage,
        "revision": revision,
        "reasons": told,
        "attributes": letter.attributes,
        "content_type": letter.content_type,
        "topic": TOPIC_OF.get(stage, "") if topic is None else topic,
        "partition": _number(place[0], _INTEGER),
        "offset": _number(place[1], _BIGINT),
        "http_code": http_code,
        "payload": base64.b64encode(letter.body[:most]).decode(),
    }
    return Envelope(
        type=type_of("parked"),
        source=SOURCE,
        id=derived_id("parked", stage, *identity, content, reasons[0].code),
        subject=order_id,
        time=ce.now(),
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode(),
        extensions=({"partitionkey": order_id} if order_id else {})
        | trace_context.carried(letter.attributes),
    )


def dead_letter(letter: Letter, revision: str, *, most: int = MOST_PAYLOAD) -> Envelope:
    """The parked event of what KafkaSource gave up on; it says where and with which answer in `knativeerror*`."""
    url = _STAGE_IN_URL.match(letter.attributes.get("knativeerrordest", ""))
    code = _number(letter.attributes.get("knativeerrorcode", ""), _LARGEST_CODE)
    text = (
        f"the stage answered {code}" if code else "the stage did not answer in time or could not be reached"
    )
    return parked(
        letter,
        stage=url[1] if url else "unknown",
        revision=revision,
        reasons=[_told(letter) or Reason("dead_letter", "", text)],
        http_code=code,
        most=most,
    )


async def publish(publisher: Publisher, build: Callable[[int], Envelope]) -> Envelope:
    """Publishes a parked event with its whole payload or, where the topic takes no record of that size, with the
    beginning of the payload. build makes the event with at most so many bytes of payload.

    Returns the event that Kafka confirmed. Raises UnavailableError where Kafka confirms none.
    """
    event = build(MOST_PAYLOAD)
    try:
        await publisher.publish(topics.PARKED, [event])
    except PoisonError:
        event = build(FITS_ANYWHERE)
        await publisher.publish(topics.PARKED, [event])
    return event


def _told(letter: Letter) -> Reason | None:
    """The reason that a stage of ours gave in its own answer, which KafkaSource hands on in base64."""
    try:
        answer = json.loads(base64.b64decode(letter.attributes.get("knativeerrordata", "")))
        return Reason(_shown(str(answer["code"]), 64), "", _shown(str(answer["title"]), 200))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _number(text: str, most: int) -> int | None:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    return int(text) if digits and int(text) <= most else None


def read(event: Envelope) -> Parked:
    """Raises PoisonError where the data is no parked event's, or is nothing that a database can store."""
    if event.type != type_of("parked"):
        raise PoisonError(Reason("type_unknown", "type", "only parked events are shelved"))
    ce.moment(event.time)
    found = parse(Parked, event.data)
    texts = [found.stage, found.revision, found.topic, found.content_type]
    texts += [text for reason in found.reasons for text in (reason.code, reason.field, reason.text)]
    texts += [text for each in found.attributes.items() for text in each]
    if any("\0" in text for text in texts):
        raise PoisonError(Reason("text_invalid", "", "a text has a NUL, which no database can store"))
    return found
