"""The event that is sent when an operator replays or edits a parked event."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from orderflow.actions.events import SOURCE
from orderflow.domain.events import VERDICTS, kind_of, type_of
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent, inbox_event, topics
from orderflow.messaging.makers import TAKEN_BY
from orderflow.messaging.parked_event import OVERTAKEN
from orderflow.messaging.places import FIRST_PLACE, OWN_EXTENSIONS

if TYPE_CHECKING:
    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.messaging.cloudevent import CloudEvent

Json: TypeAlias = Any

_ATTRIBUTES: Final = ("type", "source", "id", "subject", "time")
_KEPT_EXTENSIONS: Final = ("traceparent", "tracestate", "sequence", TAKEN_BY)
_EDITABLE_STAGES: Final = frozenset({"validate", "track", "audit", "unknown"})
"""Events that notify or shelve parked were written by our own stages: they can be replayed, not edited."""


def original_event(parked: ParkedEvent, action_id: str, *, late: bool = False) -> tuple[str, CloudEvent]:
    """Returns a topic and the original event, to be sent again without changes: with its own payload and attributes,
    but not those that the delivery added. The event keeps its source and id, so that it takes effect once.

    An event that track parked is sent as the inbox event that it came from. So all replays and edits of one order go
    through the inbox, which keeps the sequence in which the operators sent them. late: nothing overtakes it.

    Raises PoisonError naming why the event cannot be sent without changes.
    """
    topic = parked.topic_of_record
    if topic not in topics.ALL:
        raise _fault("stage_unknown", "stage", "the topic of this event is not known; edit it instead")
    if "payload_cut" in parked.codes:
        text = "only the beginning of the payload was stored; edit the event instead, with all of it"
        raise _fault("payload_cut", "payload", text)
    attributes = {name: value for name, value in parked.attributes.items() if not name.startswith("knative")}
    content_type = attributes.pop("datacontenttype", "") or cloudevent.JSON
    event = cloudevent.checked(attributes, parked.payload, content_type)
    if topic == topics.EVENTS:
        topic, event = topics.INBOX, _inbox_event(event)
    if topic == topics.INBOX:
        event = event.without_extensions(*OWN_EXTENSIONS).with_extensions(**_first_place(parked, late=late))
    return topic, event.with_extensions(replay=action_id)


def _inbox_event(event: CloudEvent) -> CloudEvent:
    """The inbox event that validate made this event of; for a verdict, the placed order."""
    source, event_id = event.extensions.get("originsource", ""), event.extensions.get("originid", "")
    if not source or not event_id:
        raise _fault("attribute_missing", "originsource", "the event's origin is not known; edit it instead")
    event_type, data = _as_sent(event.type, _data(event.data))
    body = event.data if event_type == event.type else _json(data)
    extensions = {name: event.extensions[name] for name in _KEPT_EXTENSIONS if name in event.extensions}
    return replace(
        event,
        type=event_type,
        source=source,
        id=event_id,
        data=body,
        extensions={"partitionkey": event.subject} | extensions,
    )


def _as_sent(event_type: str, data: Json) -> tuple[str, Json]:
    """The type and data of the inbox event that validate made an event of."""
    if kind_of(event_type) in VERDICTS and isinstance(data, dict) and "order" in data:
        return type_of("placed"), data["order"]
    return event_type, data


def _first_place(parked: ParkedEvent, *, late: bool) -> dict[str, str]:
    """As an extension. An operator who sends an overtaken event again has decided that it takes effect now: that event
    goes without its first place, and nothing overtakes it. So does one that is sent as a late one."""
    place = None if late or OVERTAKEN in parked.codes else parked.first_place
    return {FIRST_PLACE: str(place)} if place else {}


def document(parked: ParkedEvent) -> dict[str, Json]:
    """What an operator can edit: the event as a producer would send it to the inbox.

    For an event from validate, returns the inbox event it came from; for a verdict, the placed order. data is text
    where the payload is not JSON, and null where it is not text either. Raises PoisonError for an event that only our
    own stages send.
    """
    if parked.stage not in _EDITABLE_STAGES:
        text = f"an event that {parked.stage} parked can be replayed or discarded, not edited"
        raise _fault("not_editable", "stage", text)
    attributes = parked.attributes
    event: dict[str, Json] = {name: attributes.get(name, "") for name in _ATTRIBUTES}
    if attributes.get("type") == cloudevent.FOREIGN_TYPE:
        event |= {"type": "", "subject": parked.order_id}
    source, event_id = parked.origin
    event["source"] = source or SOURCE
    event["id"] = event_id or cloudevent.derived_id("edited", parked.id)
    event["type"], data = _as_sent(event["type"], _data(parked.payload))
    return event | {"data": data}


def _data(payload: bytes) -> Json:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        pass
    try:
        return payload.decode() or None
    except UnicodeDecodeError:
        return None


def _json(data: Json) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def edited_event(
    parked: ParkedEvent, event: dict[str, Json], action_id: str, *, late: bool = False
) -> CloudEvent:
    """The inbox event of an edited document, to be validated like any other. Raises PoisonError naming each field at
    fault, as intake does.

    The event keeps its sequence and its first place, unless the edit gives it to another order or source: there they
    say nothing. late: nothing overtakes it.
    """
    unknown = [name for name in event if name not in {*_ATTRIBUTES, "data"}]
    if unknown:
        text = "an edited event has type, source, id, subject, time, data"
        raise _fault("attribute_unknown", unknown[0][:64], text)
    attributes = {"specversion": "1.0"}
    for name in _ATTRIBUTES:
        value = event.get(name) or ""
        if not isinstance(value, str):
            raise _fault("attribute_invalid", name, "an attribute's value is text")
        attributes |= {name: value} if value else {}
    if not isinstance(event.get("data"), dict):
        raise _fault("data_invalid", "data", "the data of an order's event is a JSON object")
    extensions: dict[str, str] = {
        name: parked.attributes[name] for name in _KEPT_EXTENSIONS if name in parked.attributes
    }
    if _is_moved(parked, attributes):
        extensions.pop("sequence", None)
    else:
        extensions |= _first_place(parked, late=late)
    envelope = cloudevent.checked(attributes | extensions, _json(event["data"]), cloudevent.JSON)
    try:
        inbox_event.read(envelope)
    except PoisonError as error:
        raise PoisonError(*map(_with_document_path, error.reasons)) from None
    return envelope.with_extensions(partitionkey=envelope.subject, replay=action_id)


def _is_moved(parked: ParkedEvent, attributes: dict[str, str]) -> bool:
    """Whether an edit gives the event to another order or source than the parked event names."""
    source, _ = parked.origin
    moved_source = bool(source) and attributes.get("source") != source
    return moved_source or (bool(parked.order_id) and attributes.get("subject") != parked.order_id)


def _with_document_path(reason: Reason) -> Reason:
    """The reason's field as a path of the document. Most faults are in its data."""
    of_the_event = reason.field in {"type", "subject"} and reason.code in {
        "type_unknown",
        "attribute_missing",
    }
    if of_the_event:
        return reason
    return replace(reason, field=f"data.{reason.field}" if reason.field else "data")


def _fault(code: str, field: str, text: str) -> PoisonError:
    return PoisonError(Reason(code, field, text))
