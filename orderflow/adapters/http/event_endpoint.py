"""The HTTP endpoint of a stage that a KafkaSource feeds.

The response is 2xx where the event was handled or parked. After a 5xx the KafkaSource delivers the event again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from orderflow.adapters.http.body import read as read_body
from orderflow.adapters.http.endpoint import EVENT, OUTCOME, REASON, answers_every_error, posts_only
from orderflow.errors import PoisonError
from orderflow.messaging import cloudevent, parked_event
from orderflow.messaging.deadline import time_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from orderflow.errors import Reason
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.places import TopicIds
    from orderflow.messaging.publisher import Publisher

log = logging.getLogger(__name__)

DONE: Final = Response(status_code=204)
"""The response has no body and no header of its own, so one object serves all requests."""


class EventEndpoint:
    """Reads the CloudEvent of a request and passes it to the stage's handler.

    The handler returns the outcome, one word, once its effect is durable. It raises PoisonError where no repetition can
    succeed, and TransientError or ConflictError where a later repetition can.
    """

    def __init__(
        self,
        stage: str,
        revision: str,
        handle: Callable[[CloudEvent], Awaitable[str]],
        publisher: Publisher,
        topic_ids: TopicIds,
        *,
        seconds: float,
    ) -> None:
        """seconds is the time limit for one event, from its body to the confirmation of what is published."""
        self._stage = stage
        self._revision = revision
        self._handle = handle
        self._publisher = publisher
        self._topic_ids = topic_ids
        self._seconds = seconds
        self._topic = parked_event.TOPIC_OF[stage]

    @answers_every_error("the stage failed; the event comes again")
    async def handle(self, request: Request) -> Response:
        if request.method != "POST":
            return posts_only("events are POSTed here")
        async with time_limit(self._seconds, "the event"):
            await self._handle_event(request)
        return DONE

    async def _handle_event(self, request: Request) -> None:
        headers: list[tuple[bytes, bytes]] = request.scope["headers"]
        body = await read_body(request)
        topic_id = await self._topic_ids.id_of(self._topic)
        try:
            event = cloudevent.from_http(headers, body).delivered_from(topic_id)
            request.scope[EVENT] = event
            request.scope[OUTCOME] = await self._handle(event)
        except PoisonError as error:
            await self._park(parked_event.ReceivedEvent.of_request(headers, body), topic_id, error.reasons)
            request.scope[OUTCOME] = "parked"
            request.scope[REASON] = error.reasons[0].code

    async def _park(
        self, received: parked_event.ReceivedEvent, topic_id: str, reasons: Sequence[Reason]
    ) -> None:
        def build(max_payload: int) -> CloudEvent:
            return parked_event.parked(
                received,
                stage=self._stage,
                revision=self._revision,
                reasons=reasons,
                topic_id=topic_id,
                max_payload=max_payload,
            )

        event = await parked_event.publish(self._publisher, build)
        # The reason's field is not logged: the name of an unknown field is the sender's own text.
        extra = {"order_id": event.subject, "parked_id": event.id, "reason": reasons[0].code}
        log.warning("parked", extra=extra)
