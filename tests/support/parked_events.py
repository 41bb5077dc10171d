"""Parked events as the database stores them once a stage has parked an event."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orderflow.actions.events import ActionRequest
from orderflow.actions.parked_event import ParkedEvent
from orderflow.errors import Reason
from orderflow.messaging import parked_event
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.places import Place

TOPIC_ID = "an-id-of-the-topic"
PARKED_AT = datetime(2026, 11, 24, tzinfo=UTC)
REQUEST = ActionRequest("r-1", "anna", "2026-11-24T10:00:00Z", "because")


def parked(event: CloudEvent, stage: str = "validate", code: str = "bad", **changes: Any) -> ParkedEvent:
    delivered = event.with_extensions(knativekafkapartition="1", knativekafkaoffset="2")
    envelope = parked_event.parked(
        parked_event.ReceivedEvent.of_cloudevent(delivered),
        stage=stage,
        revision="r",
        reasons=[Reason(code, "", "a sentence")],
    )
    data = parked_event.read(envelope)
    stored = ParkedEvent(
        id=envelope.id,
        order_id=envelope.subject,
        stage=data.stage,
        topic=data.topic,
        state="open",
        codes=tuple(reason.code for reason in data.reasons),
        attributes=data.attributes | {"datacontenttype": data.content_type},
        payload=data.payload,
        parked_at=PARKED_AT,
        place=Place(TOPIC_ID, data.partition or 0, data.offset or 0),
    )
    return replace(stored, **changes)
