"""Intake's operations over HTTP."""

from __future__ import annotations

from typing import Any, Final

from orderflow.adapters.http.idempotency_key import MAX_LENGTH
from orderflow.contracts.answers import DryRun, EventAccepted
from orderflow.contracts.components import REF
from orderflow.contracts.operations import JSON, Answer, Body, Operation, Parameter, problem
from orderflow.domain.events import INBOX, OrderPlaced, type_of
from orderflow.intake.handler import MAX_BODY
from orderflow.messaging import cloudevent

_DATA: Final[dict[str, Any]] = {"anyOf": [{"$ref": REF + model.__name__} for model in INBOX.values()]}
_TYPES: Final[dict[str, Any]] = {"type": "string", "enum": [type_of(kind) for kind in INBOX]}
_ID: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{cloudevent.ID.pattern}$"}
_SOURCE: Final[dict[str, Any]] = _ID | {"format": "uri-reference"}
_SUBJECT: Final[dict[str, Any]] = {"type": "string", "pattern": f"^{cloudevent.SUBJECT.pattern}$"}
_TIME: Final[dict[str, Any]] = {"type": "string", "format": "date-time"}
_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A CloudEvent in its JSON form; contracts/schemas/read has the exact schema of each type.",
    "properties": {
        "specversion": {"const": "1.0"},
        "type": _TYPES,
        "source": _SOURCE,
        "id": _ID,
        "subject": _SUBJECT,
        "time": _TIME,
        "datacontenttype": {"const": JSON},
        "data": _DATA,
    },
    "required": ["specversion", "type", "source", "id", "subject", "data"],
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}
_ATTRIBUTES: Final = (
    Parameter("ce-specversion", "header", {"const": "1.0"}, "Binary mode: always 1.0."),
    Parameter("ce-type", "header", _TYPES, "Binary mode: what happened."),
    Parameter("ce-source", "header", _SOURCE, "Binary mode: the producer."),
    Parameter(
        "ce-id",
        "header",
        _ID,
        "Binary mode: events with the same source and id are one event, however often it is sent.",
    ),
    Parameter("ce-subject", "header", _SUBJECT, "Binary mode: the order id."),
    Parameter("ce-time", "header", _TIME, "Binary mode: when it happened; default: now."),
)
_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": "^[\\x20-\\x7e]+$"},
    "One value per order: a repeated request of the same client with the same value places the same order. A client is "
    'the name of its API key. `"k"` and `k` are the same value.',
    required=True,
)

_ACCEPTED: Final = Answer(
    202, "The event is stored.", EventAccepted, headers=(("Location", "The address of the order."),)
)
_BAD: Final = problem(400, "Refused; errors names each invalid field.")
_NO_KEY: Final = problem(401, "No valid API key.", ("WWW-Authenticate", "How to send a key."))
_FORBIDDEN: Final = problem(
    403,
    "No authority: the key may not send as this source (`source_forbidden`), or the key or the shop's rules do not let "
    "it send this kind of event for this order's owner (`not_authorised`).",
)
_TOO_LARGE: Final = problem(413, f"A body may have at most {MAX_BODY} bytes.")
_QUOTA_EXCEEDED: Final = problem(
    429,
    "The key has used up its quota; nothing is stored, send the same again.",
    ("Retry-After", "Seconds until then."),
    ("RateLimit-Policy", "The key's quotas."),
    ("RateLimit", "What is left of each quota."),
)
_FAILED: Final = problem(500, "A fault of intake; send the same again.")
_UNAVAILABLE: Final = problem(
    503, "Kafka did not confirm; send the same again.", ("Retry-After", "Seconds until then.")
)
_REFUSALS: Final = (_BAD, _NO_KEY, _FORBIDDEN, _TOO_LARGE, _QUOTA_EXCEEDED, _FAILED, _UNAVAILABLE)


def _event(path: str, name: str) -> Operation:
    return Operation(
        "post",
        path,
        name,
        "Send an event",
        "events",
        (_ACCEPTED, *_REFUSALS),
        parameters=_ATTRIBUTES,
        body=Body({JSON: _DATA, cloudevent.STRUCTURED: _EVENT}, models=tuple(INBOX.values())),
        details="A CloudEvent, in binary mode (attributes in headers, the data as the body) or structured. It has at "
        f"most {cloudevent.MAX_EXTENSIONS} extension attributes, and {cloudevent.MAX_ATTRIBUTES_SIZE} bytes of "
        "attributes.",
    )


OPERATIONS: Final = (
    Operation(
        "post",
        "/orders",
        "placeOrder",
        "Place an order",
        "orders",
        (_ACCEPTED, *_REFUSALS),
        parameters=(_KEY,),
        body=Body({JSON: OrderPlaced}),
    ),
    Operation(
        "post",
        "/orders/dry-run",
        "tryOrder",
        "The verdict that an order would get; nothing is stored",
        "orders",
        (
            Answer(200, "The verdict by the shop's rules.", DryRun),
            _BAD,
            _NO_KEY,
            _TOO_LARGE,
            _QUOTA_EXCEEDED,
            _FAILED,
        ),
        body=Body({JSON: OrderPlaced}),
    ),
    _event("/", "sendEvent"),
    _event("/events", "sendEventAsWell"),
)
