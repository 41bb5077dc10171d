"""The event that is sent when an operator replays or edits a parked event."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from orderflow.actions.events import SOURCE
from orderflow.domain.events import VERDICTS, kind_of, type_of
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent, inbox_event, parked_event, topics

if TYPE_CHECKING:
    from orderflow.actions.parked_event import ParkedEvent
    from orderflow.messaging.cloudevent import CloudEvent

Json: TypeAlias = Any

_ATTRIBUTES: Final = ("type", "source", "id", "subject", "time")
_KEPT_EXTENSIONS: Final = ("traceparent", "tracestate", "sequence")
_EDITABLE_STAGES: Final = frozenset({"validate", "track", "audit", "unknown"})
"""Events that notify or shelve parked were written by our own stages: they can be replayed, not edited."""


def original_event(parked: ParkedEvent, action_id: str) -> tuple[str, CloudEvent]:
    """Returns a topic and the original event, to be sent again without changes: with its own payload and attributes,
    but not those that the delivery added. The event keeps its source and id, so that it takes effect once.

    Raises PoisonError naming why the event cannot be sent without changes.
    """
    topic = parked_event.TOPIC_OF.get(parked.stage) or parked.topic
    if topic not in topics.ALL:
        raise _fault("stage_unknown", "stage", "the topic of this event is not known; edit it instead")
    if "payload_cut" in parked.codes:
        text = "only the beginning of the payload was stored; edit the event instead, with all of it"
        raise _fault("payload_cut", "payload", text)
    attributes = {name: value for name, value in parked.attributes.items() if not name.startswith("knative")}
    content_type = attributes.pop("datacontenttype", "") or cloudevent.JSON
    event = cloudevent.checked(attributes, parked.payload, content_type)
    return topic, event.with_extensions(replay=action_id)


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
        event |= {"type": "", "source": "", "id": "", "subject": parked.order_id}
    if parked.stage == "track" or parked.topic == topics.EVENTS:
        event["source"] = attributes.get("originsource") or event["source"]
        event["id"] = attributes.get("originid") or event["id"]
    event["source"] = event["source"] or SOURCE
    event["id"] = event["id"] or cloudevent.derived_id("edited", parked.id)
    data = _data(parked.payload)
    if kind_of(event["type"]) in VERDICTS and isinstance(data, dict) and "order" in data:
        event["type"], data = type_of("placed"), data["order"]
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


def edited_event(parked: ParkedEvent, event: dict[str, Json], action_id: str) -> CloudEvent:
    """The inbox event of an edited document, to be validated like any other. Raises PoisonError naming each field at
    fault, as intake does."""
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
    extensions = {name: parked.attributes[name] for name in _KEPT_EXTENSIONS if name in parked.attributes}
    body = json.dumps(event["data"], separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
    envelope = cloudevent.checked(attributes | extensions, body, cloudevent.JSON)
    try:
        inbox_event.read(envelope)
    except PoisonError as error:
        raise PoisonError(*map(_with_document_path, error.reasons)) from None
    return envelope.with_extensions(partitionkey=envelope.subject, replay=action_id)


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
