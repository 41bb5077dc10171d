"""Intake's work: accept CloudEvents in both modes and plain orders over HTTP, and judge orders in a dry run."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from orderflow.adapters.http import problems
from orderflow.adapters.http.body import TooLargeError
from orderflow.adapters.http.body import read as read_body
from orderflow.adapters.http.endpoint import EVENT, answers_every_error, posts_only
from orderflow.adapters.http.quotas import Quotas
from orderflow.domain.events import OrderPlaced, parse, type_of
from orderflow.domain.orders import Order
from orderflow.errors import PoisonError, Reason, TransientError
from orderflow.messaging import cloudevent, inbox_event, kafka_source, topics, trace_context
from orderflow.messaging.cloudevent import CloudEvent, derived_id, now
from orderflow.messaging.places import OWN_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from orderflow.adapters.http.api_keys import ApiKeys, Principal
    from orderflow.domain.rules import Rules
    from orderflow.messaging.publisher import Publisher

MAX_BODY: Final = 256 * 1024
KEY_LENGTH: Final = 255
BODY_SECONDS: Final = 10.0


class Intake:
    """Answers 202 with the order's address only after Kafka has confirmed the event.

    Without an answer, a client repeats the request with the same event id or Idempotency-Key. The order takes effect
    once, however often the client repeats it.
    """

    def __init__(self, publisher: Publisher, rules: Rules, api_keys: ApiKeys, public_url: str) -> None:
        self._publisher = publisher
        self._rules = rules
        self._api_keys = api_keys
        self._quotas = Quotas(MAX_BODY)
        self._public_url = public_url.rstrip("/")
        self._routes: dict[str, Callable[[Request, Principal], Awaitable[Response]]] = {
            "/": self._event,
            "/events": self._event,
            "/orders": self._order,
            "/orders/dry-run": self._dry_run,
        }

    @property
    def routes(self) -> tuple[str, ...]:
        return tuple(self._routes)

    @answers_every_error("this is our fault; send the same again")
    async def handle(self, request: Request) -> Response:
        route = self._routes.get(request.scope["path"].rstrip("/") or "/")
        if route is None:
            return problems.problem(
                404, "not_found", "there is nothing here; POST to /, /orders or /orders/dry-run"
            )
        if request.method != "POST":
            return posts_only("POST is the one way in")
        client = self._api_keys.authenticate(request.headers)
        if client is None:
            headers = {"WWW-Authenticate": 'Bearer realm="orderflow"'}
            return problems.problem(401, "unauthorised", "this needs a valid API key", headers=headers)
        try:
            return await self._quotas.answer(
                client.name, client.quota, request, partial(route, request, client)
            )
        except PoisonError as error:
            title = "the request was not taken; errors names each field at fault"
            return problems.problem(400, error.reasons[0].code, title, error.reasons)
        except TimeoutError:
            text = f"the body did not come within {BODY_SECONDS:g} s"
            return problems.problem(408, "body_too_slow", text)
        except TooLargeError:
            return problems.problem(413, "too_large", f"a body may have {MAX_BODY} bytes at most")
        except TransientError:
            return problems.unavailable("Kafka did not confirm; send the same again")
        except ClientDisconnect:
            return Response(status_code=499)

    async def _event(self, request: Request, client: Principal) -> Response:
        event = cloudevent.from_http(request.scope["headers"], await _body(request), percent_encoded=True)
        event = event.without_extensions(*OWN_EXTENSIONS)
        if not client.may_send(event.source):
            return _forbidden("this API key may not send events of this source")
        inbox_event.read(event)
        kafka_source.check(event)
        return await self._publish(event, request)

    async def _order(self, request: Request, client: Principal) -> Response:
        key = request.headers.get("idempotency-key", "")
        if not 1 <= len(key) <= KEY_LENGTH or not key.isascii() or not key.isprintable():
            reason = Reason(
                "idempotency_key_missing" if not key else "idempotency_key_invalid",
                "Idempotency-Key",
                "this header makes a repeated request safe: 1 to 255 printable ASCII characters, one value per order",
            )
            raise PoisonError(reason)
        source = f"/storefront/{client.name}"
        if not client.may_send(source):
            return _forbidden(f"this API key may not send events of the source {source}, as an order is")
        body = await _body(request)
        order = parse(OrderPlaced, body)
        event = CloudEvent(
            type=type_of("placed"),
            source=source,
            id=derived_id("intake", source, key),
            subject=order.order_id or derived_id("order", source, key),
            time=now(),
            data=body,
        )
        return await self._publish(event, request)

    async def _dry_run(self, request: Request, _client: Principal) -> Response:
        order = parse(OrderPlaced, await _body(request))
        verdict = self._rules.judge(Order.model_construct(**order.__dict__))
        reasons = [{"code": each.code, "field": each.field, "text": each.text} for each in verdict.reasons]
        return JSONResponse({"would_be": verdict.kind, "reasons": reasons})

    async def _publish(self, event: CloudEvent, request: Request) -> Response:
        extensions, links = trace_context.from_http(event.extensions, request.scope["headers"])
        extensions["partitionkey"] = event.subject
        event = replace(event, time=event.time or now(), extensions=extensions, links=links)
        request.scope[EVENT] = event
        await self._publisher.publish(topics.INBOX, [event])
        location = f"{self._public_url}/orders/{event.subject}"
        body = {"order_id": event.subject, "event_id": event.id, "status_url": location}
        return Response(json.dumps(body), 202, {"Location": location}, "application/json")


def _forbidden(text: str) -> Response:
    return problems.problem(403, "source_forbidden", text, [Reason("source_forbidden", "source", text)])


async def _body(request: Request) -> bytes:
    """Reads MAX_BODY bytes at most, whatever Content-Length says. Raises TooLargeError, TimeoutError."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise TooLargeError
    async with asyncio.timeout(BODY_SECONDS):
        return await read_body(request, MAX_BODY)
