"""A parked event as operators act on it: one row of the table `parked`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent, topics
from orderflow.messaging.parked_event import TOPIC_OF
from orderflow.messaging.places import FIRST_PLACE, INBOX_PLACE, Place
from orderflow.messaging.position import Position, in_sequence, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

SELECT: Final = """
SELECT id, order_id, stage, topic, topic_id, partition, "offset", state, reasons, attributes, payload, parked_at,
       revision
FROM parked
"""
"""For from_row. Whoever uses it appends the conditions."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """attributes are those of the original event, as they were sent, and `datacontenttype`. codes are the codes of the
    reasons for which it was parked. revision is the one that parked it. place is that of its record in its topic, None
    where it is not known."""

    id: str
    order_id: str
    stage: str
    topic: str
    state: str
    codes: tuple[str, ...]
    attributes: dict[str, str]
    payload: bytes
    parked_at: datetime
    place: Place | None = None
    revision: str = ""

    @property
    def topic_of_record(self) -> str:
        """Empty where it is not known."""
        return TOPIC_OF.get(self.stage) or self.topic

    @property
    def origin(self) -> tuple[str, str]:
        """The source and id of the inbox event that it is or came from; each is empty where it is not known."""
        attributes = self.attributes
        if attributes.get("type") == cloudevent.FOREIGN_TYPE:
            return "", ""
        source, event_id = attributes.get("source", ""), attributes.get("id", "")
        if self.topic_of_record == topics.EVENTS:
            return attributes.get("originsource") or source, attributes.get("originid") or event_id
        return source, event_id

    @property
    def first_place(self) -> Place | None:
        """Where the event belongs in the inbox, which is the place of its first record there."""
        in_inbox = self.topic_of_record == topics.INBOX
        carried = self.attributes.get(FIRST_PLACE) or ("" if in_inbox else self.attributes.get(INBOX_PLACE))
        return Place.parse(carried or "") or (self.place if in_inbox else None)


def from_row(row: Mapping[str, Any]) -> ParkedEvent:
    return ParkedEvent(
        id=row["id"],
        order_id=row["order_id"],
        stage=row["stage"],
        topic=row["topic"],
        state=row["state"],
        codes=tuple(reason["code"] for reason in row["reasons"]),
        attributes=row["attributes"],
        payload=bytes(row["payload"]),
        parked_at=row["parked_at"],
        place=_place(row),
        revision=row["revision"],
    )


def _place(row: Mapping[str, Any]) -> Place | None:
    if not row["topic_id"] or row["partition"] is None or row["offset"] is None:
        return None
    return Place(row["topic_id"], row["partition"], row["offset"])


def not_open(parked: ParkedEvent) -> Reason:
    """Why no action is possible on a parked event that is not open."""
    if parked.state == "discarded":
        return Reason("already_discarded", "state", "the parked event was discarded before")
    text = "the parked event was sent again before, by a replay, an edit or a repair"
    return Reason("already_replayed", "state", text)


def in_order(parked_events: Iterable[ParkedEvent]) -> list[ParkedEvent]:
    """By the sequence of each order's and source's events in the inbox; between those, by the time of the original
    event or, where that event has no valid time, by the time of parking."""
    numbered = map(_Numbered, parked_events)
    return [each.parked for each in in_sequence(numbered, lambda each: (each.parked.order_id, each.source))]


class _Numbered:
    """A parked event as in_sequence() needs it."""

    __slots__ = ("id", "occurred_at", "parked", "position", "source")

    def __init__(self, parked: ParkedEvent) -> None:
        self.parked = parked
        self.source = parked.origin[0]
        self.id = f"{parked.parked_at.isoformat()} {parked.id}"
        sequence = whole_number(parked.attributes.get("sequence", ""))
        self.position = Position(parked.first_place, sequence)
        try:
            self.occurred_at = cloudevent.moment(parked.attributes.get("time", ""))
        except PoisonError:
            self.occurred_at = parked.parked_at
