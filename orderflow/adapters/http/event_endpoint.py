"""How a stage takes an event that KafkaSource brings: done is 2xx, poison is parked and 2xx, doubt is 5xx."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from orderflow.adapters.http import problems
from orderflow.adapters.http.body import read as read_body
from orderflow.adapters.telemetry import logs
from orderflow.errors import ConflictError, PoisonError, Reason, UnavailableError
from orderflow.messaging import cloudevent, parked_event, topics, trace_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from orderflow.adapters.kafka.producer import Publisher
    from orderflow.messaging.cloudevent import Envelope

log = logging.getLogger(__name__)

_DONE: Final = Response(status_code=204)
"""It has no body and no header of its own, so one serves all requests."""


class Reception:
    """The door of one stage. handle raises PoisonError for what no repetition cures, UnavailableError for what
    time cures; what it returns without an error has taken lasting effect: one word on what became of it."""

    def __init__(
        self, stage: str, revision: str, handle: Callable[[Envelope], Awaitable[str]], publisher: Publisher
    ) -> None:
        self._stage = stage
        self._revision = revision
        self._handle = handle
        self._publisher = publisher

    async def take(self, request: Request) -> Response:
        if request.method != "POST":
            return _posts_only()
        headers: list[tuple[bytes, bytes]] = request.scope["headers"]
        event_id = ""
        try:
            body = await read_body(request)
            try:
                event = cloudevent.from_http(headers, body)
                event_id = event.id
                request.scope[trace_context.EVENT] = event
                request.scope[trace_context.OUTCOME] = await self._handle(event)
            except PoisonError as error:
                await self._park(parked_event.Letter.of_request(headers, body), error.reasons)
                request.scope[trace_context.OUTCOME] = "parked"
                request.scope[trace_context.REASON] = error.reasons[0].code
        except (UnavailableError, ConflictError) as error:
            log.warning("not now", extra={"event_id": logs.identifier(event_id), "cause": str(error)})
            request.scope[trace_context.OUTCOME] = "not_now"
            return problems.unavailable(str(error))
        except Exception as error:  # noqa: BLE001 - the framework would log its text and so the data
            request.scope[trace_context.OUTCOME] = "failed"
            extra = {
                "event_id": logs.identifier(event_id),
                "error": type(error).__name__,
                "where": logs.where(error),
            }
            log.error("unexpected", extra=extra)  # noqa: TRY400 - a stack trace may quote the data
            return problems.problem(500, "internal_error", "the stage failed; the event comes again")
        return _DONE

    async def _park(self, letter: parked_event.Letter, reasons: Sequence[Reason]) -> None:
        def build(most: int) -> Envelope:
            return parked_event.parked(
                letter, stage=self._stage, revision=self._revision, reasons=reasons, most=most
            )

        event = await _publish_parked(self._publisher, build)
        # Not the field: the name of an unknown one is the sender's own text.
        extra = {"order_id": event.subject, "parked_id": event.id, "reason": reasons[0].code}
        log.warning("parked", extra=extra)


class DeadLetters:
    """The door of park: takes whatever comes, readable or not, and answers 2xx once it is in the topic."""

    def __init__(self, revision: str, publisher: Publisher) -> None:
        self._revision = revision
        self._publisher = publisher

    async def take(self, request: Request) -> Response:
        if request.method != "POST":
            return _posts_only()
        try:
            letter = parked_event.Letter.of_request(request.scope["headers"], await read_body(request))
            event = await _publish_parked(
                self._publisher, lambda most: parked_event.dead_letter(letter, self._revision, most=most)
            )
            request.scope[trace_context.EVENT], request.scope[trace_context.OUTCOME] = event, "parked"
        except UnavailableError as error:
            log.warning("not now", extra={"cause": str(error)})
            return problems.unavailable(str(error))
        except Exception as error:  # noqa: BLE001 - the framework would log its text and so the data
            log.error("unexpected", extra={"error": type(error).__name__, "where": logs.where(error)})  # noqa: TRY400
            return problems.problem(500, "internal_error", "the stage failed; the event comes again")
        log.warning("dead letter parked", extra={"order_id": event.subject, "parked_id": event.id})
        return _DONE


async def _publish_parked(publisher: Publisher, build: Callable[[int], Envelope]) -> Envelope:
    """Parks the payload whole or, where the topic takes no record of that size, its beginning."""
    event = build(parked_event.MOST_PAYLOAD)
    try:
        await publisher.publish(topics.PARKED, [event])
    except PoisonError:
        event = build(parked_event.FITS_ANYWHERE)
        await publisher.publish(topics.PARKED, [event])
    return event


def _posts_only() -> Response:
    return problems.problem(405, "method_not_allowed", "events are POSTed here", headers={"Allow": "POST"})
