"""What validate makes of an inbox event: a verdict on a placed order, or a well-formed update passed on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from orderflow.domain.events import INBOX, OrderPlaced, kind_of, parse, type_of
from orderflow.domain.orders import Order
from orderflow.errors import PoisonError, Reason
from orderflow.messaging.cloudevent import Envelope, derived_id, now

if TYPE_CHECKING:
    from orderflow.domain.events import Update
    from orderflow.domain.rules import Rules

SOURCE: Final = "/orderflow/validate"
_CARRIED: Final = ("traceparent", "tracestate", "sequence", "replay")


def read(event: Envelope) -> OrderPlaced | Update:
    """An inbox event's data. Raises PoisonError naming what is wrong with the type, the subject or the data."""
    model = INBOX.get(kind_of(event.type) or "")
    if model is None:
        raise PoisonError(Reason("type_unknown", "type", "this type of event is not taken here"))
    if not event.subject:
        raise PoisonError(Reason("attribute_missing", "subject", "the subject is the order id"))
    fact = parse(model, event.data)
    if isinstance(fact, OrderPlaced) and fact.order_id not in {None, event.subject}:
        raise PoisonError(Reason("order_id_mismatch", "order_id", "this differs from the event's subject"))
    return fact


def digest(event_type: str, subject: str, content: bytes) -> str:
    """What tells apart two events that claim to be the same: sha256 over type, order id and normalised data."""
    return hashlib.sha256(f"{event_type}\n{subject}\n".encode() + content).hexdigest()


def digest_of(event: Envelope) -> str:
    """That of an inbox event. Raises PoisonError as read() does."""
    return digest(event.type, event.subject, _normalised(read(event)))


def _normalised(fact: OrderPlaced | Update) -> bytes:
    return fact.model_dump_json(exclude_none=True).encode()


def validate(event: Envelope, rules: Rules, revision: str = "") -> Envelope:
    """The event for the events topic. Its id follows from the inbox event's, its content from the rules too.

    revision is whose verdict it is: the ledger keeps it, for a release is judged by it.
    """
    fact = read(event)
    content = _normalised(fact)
    kind, data = fact.kind, content
    if isinstance(fact, OrderPlaced):
        verdict = rules.judge(Order.model_construct(**fact.__dict__))
        kind, data = verdict.kind, verdict.model_dump_json(exclude_none=True).encode()
    carried = {name: event.extensions[name] for name in _CARRIED if name in event.extensions}
    return Envelope(
        type=type_of(kind),
        source=SOURCE,
        id=derived_id("validate", event.source, event.id),
        subject=event.subject,
        time=event.time or now(),
        data=data,
        extensions={
            "partitionkey": event.subject,
            "originsource": event.source,
            "originid": event.id,
            "origindigest": digest(event.type, event.subject, content),
        }
        | ({"validatedby": revision} if revision else {})
        | carried,
    )
