"""What becomes of a parked event that an operator sends again: as it was, or edited."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from orderflow.actions.events import SOURCE
from orderflow.domain.events import VERDICTS, kind_of, type_of
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent, inbox_event, parked_event, topics

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orderflow.messaging.cloudevent import Envelope

Json = Any

_ATTRIBUTES: Final = ("type", "source", "id", "subject", "time")
_CARRIED: Final = ("traceparent", "tracestate", "sequence")
_EDITABLE_STAGES: Final = frozenset({"validate", "track", "audit", "unknown"})
"""What notify and shelve could not handle is made by stages of ours: it can be sent again, but not be written anew."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A parked event as the shelf has it. attributes are as they were sent, with `datacontenttype`."""

    id: str
    order_id: str
    stage: str
    topic: str
    state: str
    codes: tuple[str, ...]
    attributes: dict[str, str]
    payload: bytes
    parked_at: datetime


def in_order(letters: Iterable[Letter]) -> list[Letter]:
    """In the order in which they happened: by the event's time or, where it has none, that of its parking."""

    def when(letter: Letter) -> tuple[datetime, datetime, str]:
        try:
            return cloudevent.moment(letter.attributes.get("time", "")), letter.parked_at, letter.id
        except PoisonError:
            return letter.parked_at, letter.parked_at, letter.id

    return sorted(letters, key=when)


def replayed(letter: Letter, action_id: str) -> tuple[str, Envelope]:
    """The topic and the event of a letter sent again as it was: its own bytes and attributes, without those that
    the delivery added, under its own source and id, so that its effect stays one.

    Raises PoisonError naming what keeps it from being sent as it is.
    """
    topic = parked_event.TOPIC_OF.get(letter.stage) or letter.topic
    if topic not in topics.ALL:
        raise _fault("stage_unknown", "stage", "where this was going is not known; edit it instead")
    if "payload_cut" in letter.codes:
        raise _fault("payload_cut", "payload", "only its beginning was kept; edit it instead, with all of it")
    kept = {name: value for name, value in letter.attributes.items() if not name.startswith("knative")}
    content_type = kept.pop("datacontenttype", "") or cloudevent.JSON
    event = cloudevent.checked(kept, letter.payload, content_type)
    return topic, event.with_extensions(replay=action_id)


def document(letter: Letter) -> dict[str, Json]:
    """What of a letter can be edited: the event as a producer would send it to the inbox.

    Of an event that validate had passed on it is the one that this was made from, and of a verdict the placed
    order. data is text where it is no JSON, and null where nothing can be read. Raises PoisonError for a letter
    that nobody outside sends.
    """
    if letter.stage not in _EDITABLE_STAGES:
        text = f"what {letter.stage} could not handle can be replayed or discarded, not edited"
        raise _fault("not_editable", "stage", text)
    given = letter.attributes
    found: dict[str, Json] = {name: given.get(name, "") for name in _ATTRIBUTES}
    if given.get("type") == cloudevent.FOREIGN_TYPE:
        found |= {"type": "", "source": "", "id": "", "subject": letter.order_id}
    if letter.stage == "track" or letter.topic == topics.EVENTS:
        found["source"] = given.get("originsource") or found["source"]
        found["id"] = given.get("originid") or found["id"]
    found["source"] = found["source"] or SOURCE
    found["id"] = found["id"] or cloudevent.derived_id("edited", letter.id)
    data = _read(letter.payload)
    if kind_of(found["type"]) in VERDICTS and isinstance(data, dict) and "order" in data:
        found["type"], data = type_of("placed"), data["order"]
    return found | {"data": data}


def _read(payload: bytes) -> Json:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        pass
    try:
        return payload.decode() or None
    except UnicodeDecodeError:
        return None


def changed(before: dict[str, Json], changes: dict[str, Json]) -> dict[str, Json]:
    """The document with each path, such as `data.lines.0.quantity`, set to its value; None takes it out.

    Raises PoisonError naming the first path that leads nowhere.
    """
    found: dict[str, Json] = json.loads(json.dumps(before))
    for path, value in changes.items():
        _set(found, path, value)
    return found


def _set(found: dict[str, Json], path: str, value: Json) -> None:
    *way, last = path.split(".")
    place: Json = found
    for part in way:
        place = _member(place, part, path)
    if isinstance(place, list):
        _member(place, last, path)
        place[int(last) : int(last) + 1] = [] if value is None else [value]
    elif isinstance(place, dict):
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    else:
        raise _fault("path_unknown", path, "there is nothing under this path that has members")


def _member(place: Json, part: str, path: str) -> Json:
    if isinstance(place, dict) and part in place:
        return place[part]
    if isinstance(place, list) and part.isascii() and part.isdigit() and int(part) < len(place):
        return place[int(part)]
    raise _fault("path_unknown", path, "the event has nothing under this path")


def differing(before: Json, after: Json, path: str = "") -> list[str]:
    """The paths under which two documents differ, the outermost where only one of them has it."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        inner = [(before.get(name), after.get(name), name) for name in names]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        inner = [(old, new, str(place)) for place, (old, new) in enumerate(zip(before, after, strict=True))]
    else:
        return [path] if before != after or type(before) is not type(after) else []
    return [
        found for old, new, name in inner for found in differing(old, new, f"{path}.{name}" if path else name)
    ]


def edited(letter: Letter, written: dict[str, Json], action_id: str) -> Envelope:
    """The inbox event of an edited document, which is validated like any other. Raises PoisonError naming each
    field at fault, as intake does."""
    unknown = [name for name in written if name not in {*_ATTRIBUTES, "data"}]
    if unknown:
        raise _fault(
            "attribute_unknown", unknown[0][:64], "an edited event has type, source, id, subject, time, data"
        )
    attributes = {"specversion": "1.0"}
    for name in _ATTRIBUTES:
        value = written.get(name) or ""
        if not isinstance(value, str):
            raise _fault("attribute_invalid", name, "an attribute's value is text")
        attributes |= {name: value} if value else {}
    if not isinstance(written.get("data"), dict):
        raise _fault("data_invalid", "data", "the data of an order's event is a JSON object")
    carried = {name: letter.attributes[name] for name in _CARRIED if name in letter.attributes}
    body = json.dumps(written["data"], separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )
    event = cloudevent.checked(attributes | carried, body, cloudevent.JSON)
    try:
        inbox_event.read(event)
    except PoisonError as error:
        raise PoisonError(*map(_in_data, error.reasons)) from None
    return event.with_extensions(partitionkey=event.subject, replay=action_id)


def _in_data(reason: Reason) -> Reason:
    """A fault of the data, with its path in the document."""
    own = reason.field in {"type", "subject"} and reason.code in {"type_unknown", "attribute_missing"}
    if own:
        return reason
    return replace(reason, field=f"data.{reason.field}" if reason.field else "data")


def _fault(code: str, field: str, text: str) -> PoisonError:
    return PoisonError(Reason(code, field, text))
