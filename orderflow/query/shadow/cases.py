"""Cases: an event that the canary has judged, and the question that has the stable revision judge it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orderflow.adapters.kafka import kafka_record
from orderflow.domain.events import kind_of
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import cloudevent, judgement
from orderflow.messaging.judgement import PARKED, Judgement, TrackQuestion, readable, structured
from orderflow.messaging.places import INBOX_PLACE, Place
from orderflow.query.clients.questions import Question

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orderflow.adapters.kafka.kafka_record import KafkaRecord
    from orderflow.query.store.release_shadow import Decision, ParkedByRelease

UNREADABLE: Final = "unreadable"
"""The outcome of an event that a canary of validate published and nobody can read."""
_JSON: Final = {"content-type": cloudevent.JSON}
_VERDICTS: Final = ("accepted", "rejected", "held")


@dataclass(frozen=True, slots=True)
class Case:
    """source and id are those of the inbox event. timed: that event had a time."""

    order_id: str
    source: str
    id: str
    canary: Judgement
    question: Question
    timed: bool = True

    @property
    def stratum(self) -> str:
        """What validate passes on is one stratum, whatever its kind: verdicts are what it decides."""
        if self.canary.event is None or self.canary.outcome in {*_VERDICTS, UNREADABLE}:
            return self.canary.outcome
        return "passed on"


@dataclass(frozen=True, slots=True)
class Published:
    """A record of the events topic that the canary of validate made. place is that of its inbox record."""

    order_id: str
    source: str
    id: str
    place: Place
    canary: Judgement

    @property
    def stratum(self) -> str:
        return Case(self.order_id, self.source, self.id, self.canary, Question({}, b"")).stratum


def published(record: KafkaRecord, canary: str, since: datetime) -> Published | None:
    """None where the record is not the canary's, or says no place of an inbox record."""
    place = Place.parse(record.attribute(INBOX_PLACE))
    if record.attribute("validatedby") != canary or record.written_at < since or place is None:
        return None
    source, event_id = record.attribute("originsource"), record.attribute("originid")
    return Published(record.attribute("subject"), source, event_id, place, _judgement_of(record))


def _judgement_of(record: KafkaRecord) -> Judgement:
    try:
        event = kafka_record.read(record)
        document = readable(event)
    except PoisonError as error:
        return Judgement(outcome=UNREADABLE, reasons=error.reasons)
    except ValueError:
        return Judgement(outcome=UNREADABLE)
    reasons = judgement.reasons_of(document["data"])
    return Judgement(outcome=kind_of(event.type) or "", reasons=reasons, event=document)


def of_validate(event: Published, record: KafkaRecord) -> Case | None:
    """record is the inbox record. None where it has no event, so that validate never saw it like this."""
    try:
        original = kafka_record.read(record)
    except PoisonError:
        return None
    question = _binary(original.attributes(), original.content_type, original.data)
    order_id = original.subject or event.order_id
    return Case(order_id, event.source, event.id, event.canary, question, timed=bool(original.time))


def of_parked(parked: ParkedByRelease, stage: str) -> Case | None:
    """None where a header cannot carry an attribute as it was."""
    attributes = dict(parked.attributes)
    content_type = attributes.pop("datacontenttype", cloudevent.JSON)
    reasons = tuple(Reason(**reason) for reason in parked.reasons)
    canary = Judgement(outcome=PARKED, reasons=reasons)
    if stage == "track":
        event = structured(attributes, content_type, parked.payload)
        question = _for_track(TrackQuestion(event=event))
    elif all(value.isascii() and value.isprintable() for value in (*attributes.values(), content_type)):
        question = _binary(attributes, content_type, parked.payload)
    else:
        return None
    source, event_id = attributes.get("source", ""), attributes.get("id", "")
    return Case(parked.order_id, source, event_id, canary, question)


def of_track(decision: Decision, record: KafkaRecord) -> Case | None:
    """record is that of the events topic. None where the decision depended on more than is known, or was made on
    another content than the record's."""
    if not decision.complete or record.attribute("origindigest") != decision.digest:
        return None
    try:
        event = kafka_record.read(record)
    except PoisonError:
        return None
    question = TrackQuestion(
        event=structured(event.attributes(), event.content_type, event.data),
        order=decision.before,
        decided_sequence=decision.decided_sequence,
        replay_known=event.extensions.get("replay") in decision.replays,
    )
    canary = Judgement(
        outcome=decision.outcome,
        reasons=() if decision.reason is None else (decision.reason,),
        order=decision.after,
        detail=decision.detail,
        document=decision.document,
    )
    return Case(decision.order_id, decision.source, decision.id, canary, _for_track(question))


def _binary(attributes: Mapping[str, str], content_type: str, data: bytes) -> Question:
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    return Question(headers | {"content-type": content_type}, data)


def _for_track(question: TrackQuestion) -> Question:
    return Question(_JSON, question.model_dump_json().encode())


def described(verdict: Judgement) -> dict[str, Any]:
    """A judgement for a list: without the order."""
    return {"outcome": verdict.outcome, "reasons": sorted({reason.code for reason in verdict.reasons})}
