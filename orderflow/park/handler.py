"""Park's work: publish a dead letter, readable or not, to the parked topic."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from orderflow.adapters.http.body import read as read_body
from orderflow.adapters.http.endpoint import EVENT, OUTCOME, answers_every_error, posts_only
from orderflow.adapters.http.event_endpoint import DONE
from orderflow.messaging import parked_event
from orderflow.messaging.deadline import EVENT_SECONDS, time_limit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.places import TopicIds
    from orderflow.messaging.publisher import Publisher

log = logging.getLogger(__name__)


class DeadLetterSink:
    """The dead-letter sink of every KafkaSource: answers 2xx once Kafka has confirmed the parked event."""

    def __init__(self, revision: str, publisher: Publisher, topic_ids: TopicIds) -> None:
        self._revision = revision
        self._publisher = publisher
        self._topic_ids = topic_ids

    @answers_every_error("the stage failed; the event comes again")
    async def handle(self, request: Request) -> Response:
        if request.method != "POST":
            return posts_only("events are POSTed here")
        async with time_limit(EVENT_SECONDS, "the event"):
            event = await self._park(request)
        request.scope[EVENT], request.scope[OUTCOME] = event, "parked"
        log.warning("dead letter parked", extra={"order_id": event.subject, "parked_id": event.id})
        return DONE

    async def _park(self, request: Request) -> CloudEvent:
        received = parked_event.ReceivedEvent.of_request(request.scope["headers"], await read_body(request))
        topic = parked_event.TOPIC_OF.get(parked_event.failed_stage(received))
        topic_id = await self._topic_ids.id_of(topic) if topic else ""
        return await parked_event.publish(
            self._publisher,
            lambda max_payload: parked_event.dead_letter(
                received, self._revision, topic_id=topic_id, max_payload=max_payload
            ),
        )
