"""Every event in a topic: its type, the models of its data, its extension attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

from orderflow.actions import events
from orderflow.domain.events import INBOX, UPDATES, VERDICTS, type_of
from orderflow.messaging import inbox_event, parked_event, topics
from orderflow.messaging.makers import TAKEN_BY, TRACKED_BY, VALIDATED_BY
from orderflow.messaging.parked_event import Parked
from orderflow.messaging.places import FIRST_PLACE, INBOX_PLACE
from orderflow.messaging.status_event import SOURCE
from orderflow.notify.model import StatusChange, StatusKind

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTITION_KEY: Final = "partitionkey"
_ORIGIN: Final = ("originsource", "originid")
_TRACE: Final = ("traceparent", "tracestate")

EXTENSIONS: Final = {
    PARTITION_KEY: "The order id, which is also the Kafka key.",
    "originsource": "The source of the originating inbox event.",
    "originid": "The id of the originating inbox event.",
    "origindigest": "SHA-256 over that event's type, order id and data; it distinguishes two events with one id.",
    "contentdigest": "The same over what was sent, without defaults, after the version of its form: `2:<hex>`.",
    INBOX_PLACE: "The place of the inbox record that it came from: `topic id:partition:offset`.",
    FIRST_PLACE: "The place of the first record of an event that was published again, in the same form.",
    TAKEN_BY: "The revision of intake that took the event.",
    VALIDATED_BY: "The revision of validate that decided.",
    TRACKED_BY: "The revision of track that answers for the event.",
    "sequence": "The number of the event among the producer's events of its order.",
    "replay": "The id of the operator's action that sent the event again.",
    "traceparent": "W3C Trace Context.",
    "tracestate": "W3C Trace Context.",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One type of event in one topic.

    models: the types of its data; the first that fits applies. source: the events' source, None for any. required and
    optional: extension attributes. nulls: the writer writes null where a value is missing, instead of leaving the
    member out. written: a stage of ours writes the event.
    """

    topic: str
    kind: str
    event_type: str
    models: tuple[type[Any], ...]
    summary: str
    source: str | None = None
    subject: bool = True
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = field(default=(*_TRACE,))
    nulls: bool = False
    written: bool = True

    @property
    def name(self) -> str:
        """Unique; a type alone is not, since several topics may have it, each with other data."""
        return f"{self.topic}/{self.event_type}"


def _validated_summary(kind: str) -> str:
    if kind not in VERDICTS:
        return "A well-formed update of an order."
    if kind in UPDATES:
        return "Held by validate, with the order, or by an operator, without the order."
    return "The verdict on a placed order, with the order."


def all_messages() -> Iterator[Message]:
    for kind, model in INBOX.items():
        yield Message(
            topics.INBOX,
            kind,
            type_of(kind),
            (model,),
            "An order as a shop places it."
            if kind == "placed"
            else f"The producer reports that the order was {kind}.",
            optional=(PARTITION_KEY, "sequence", "replay", FIRST_PLACE, TAKEN_BY, *_TRACE),
            written=False,
        )
    for kind in dict.fromkeys([*VERDICTS, *UPDATES]):
        models = tuple(table[kind] for table in (VERDICTS, UPDATES) if kind in table)
        yield Message(
            topics.EVENTS,
            kind,
            type_of(kind),
            models,
            _validated_summary(kind),
            source=inbox_event.VALIDATED_SOURCE,
            required=(PARTITION_KEY, *_ORIGIN, "origindigest"),
            optional=(
                "contentdigest",
                TAKEN_BY,
                VALIDATED_BY,
                "sequence",
                "replay",
                INBOX_PLACE,
                FIRST_PLACE,
                *_TRACE,
            ),
        )
    for kind in get_args(StatusKind):
        yield Message(
            topics.STATUS,
            kind,
            type_of(kind),
            (StatusChange,),
            f"The state of the order after it was {kind}.",
            source=SOURCE,
            required=(PARTITION_KEY, *_ORIGIN),
            optional=("traceparent", "replay", TRACKED_BY),
        )
    yield Message(
        topics.PARKED,
        "parked",
        type_of("parked"),
        (Parked,),
        "An event that a stage could not handle, unchanged, with the reasons.",
        source=parked_event.SOURCE,
        subject=False,
        optional=(PARTITION_KEY,),
        nulls=True,
    )
    for action in events.MODELS.values():
        yield Message(
            topics.PARKED,
            action.kind,
            action.type,
            (action,),
            "An operator's action, executed by shelve.",
            source=events.SOURCE,
            subject=False,
            optional=(PARTITION_KEY,),
        )
