"""Inbox events: their data, their digest, and the identity that validate gives to what it makes of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from orderflow.domain.digests import Digests
from orderflow.domain.events import INBOX, OrderPlaced, kind_of, parse
from orderflow.errors import PoisonError, Reason
from orderflow.messaging.cloudevent import derived_id
from orderflow.messaging.makers import MAKERS
from orderflow.messaging.places import OWN_EXTENSIONS

if TYPE_CHECKING:
    from orderflow.domain.events import Update
    from orderflow.messaging.cloudevent import CloudEvent

VALIDATED_SOURCE: Final = "/orderflow/validate"
"""The CloudEvent source of every event that validate publishes."""
OWN_SOURCES: Final = "/orderflow/"
"""What the CloudEvent sources of our own stages begin with."""
_OWN_EXTENSIONS: Final = frozenset(
    {*OWN_EXTENSIONS, *MAKERS, "originsource", "originid", "origindigest", "contentdigest"}
)
_DELIVERY: Final = "knative"
"""What the extensions that KafkaSource sets begin with."""
_CONTENT_FORM: Final = "2"
"""The version of the form that content_digest() covers. origindigest, without a version, was the first."""


def read(event: CloudEvent) -> OrderPlaced | Update:
    """The data of an inbox event. Raises PoisonError naming what is wrong with the type, the subject or the data."""
    model = INBOX.get(kind_of(event.type) or "")
    if model is None:
        raise PoisonError(Reason("type_unknown", "type", "this type of event is not taken here"))
    if not event.subject:
        raise PoisonError(Reason("attribute_missing", "subject", "the subject is the order id"))
    fact = parse(model, event.data)
    if isinstance(fact, OrderPlaced) and fact.order_id not in {None, event.subject}:
        raise PoisonError(Reason("order_id_mismatch", "order_id", "this differs from the event's subject"))
    return fact


def as_from_outside(event: CloudEvent) -> CloudEvent:
    """The event without the extensions that only our own stages and KafkaSource set."""
    own = [name for name in event.extensions if name in _OWN_EXTENSIONS or name.startswith(_DELIVERY)]
    return event.without_extensions(*own)


def normalised(fact: OrderPlaced | Update) -> bytes:
    """The data as JSON without null members: the content that the digest covers."""
    return fact.model_dump_json(exclude_none=True).encode()


def digest(event_type: str, subject: str, content: bytes) -> str:
    """SHA-256 over type, order id and normalised data: two events with one source and id but different digests are
    different events."""
    return hashlib.sha256(f"{event_type}\n{subject}\n".encode() + content).hexdigest()


def content_digest(event_type: str, subject: str, fact: OrderPlaced | Update) -> str:
    """SHA-256 over type, order id and what was sent: canonical JSON (sorted keys, no white space) without null members,
    without members that have their default, and without `order_id`, which the subject repeats. The form's version
    comes first: `2:<hex>`.

    A release with one more optional field computes the same digest for an event that does not have the field.
    """
    sent = fact.model_dump(mode="json", exclude={"order_id"}, exclude_none=True, exclude_defaults=True)
    canonical = json.dumps(sent, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = f"{_CONTENT_FORM}\n{event_type}\n{subject}\n{canonical}"
    return f"{_CONTENT_FORM}:{hashlib.sha256(text.encode()).hexdigest()}"


def digests_of(event: CloudEvent) -> Digests:
    """The digests of an inbox event. Raises PoisonError where read() does."""
    fact = read(event)
    return Digests(
        digest(event.type, event.subject, normalised(fact)), content_digest(event.type, event.subject, fact)
    )


def validated_id(source: str, event_id: str) -> str:
    """The id of the event that validate makes of the inbox event with this source and id."""
    return derived_id("validate", source, event_id)
