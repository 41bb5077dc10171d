"""Intake's work: accept CloudEvents in both modes and plain orders over HTTP, and judge orders in a dry run."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from orderflow.adapters.http import idempotency_key, problems
from orderflow.adapters.http.body import TooLargeError
from orderflow.adapters.http.body import read as read_body
from orderflow.adapters.http.endpoint import EVENT, answers_every_error, posts_only
from orderflow.adapters.http.quotas import Quotas
from orderflow.domain.events import OrderPlaced, parse, type_of
from orderflow.domain.orders import Order
from orderflow.errors import PoisonError, Reason, TransientError
from orderflow.messaging import cloudevent, inbox_event, kafka_source, makers, topics, trace_context
from orderflow.messaging.cloudevent import CloudEvent, derived_id, now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from orderflow.adapters.http.api_keys import ApiKeys, Principal
    from orderflow.domain.rules import Rules
    from orderflow.messaging.publisher import Publisher

MAX_BODY: Final = 256 * 1024
BODY_SECONDS: Final = 10.0


class Intake:
    """Answers 202 with the order's address only after Kafka has confirmed the event.

    Without an answer, a client repeats the request with the same event id or Idempotency-Key. The order takes effect
    once, however often the client repeats it.
    """

    def __init__(
        self,
        publisher: Publisher,
        rules: Rules,
        api_keys: ApiKeys,
        public_url: str,
        *,
        revision: str = "",
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        """revision is stored with each event. body_seconds is how long a client may take to send a body."""
        self._revision = revision
        self._body_seconds = body_seconds
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
            text = f"the body did not come within {self._body_seconds:g} s"
            return problems.problem(408, "body_too_slow", text)
        except TooLargeError:
            return problems.problem(413, "too_large", f"a body may have {MAX_BODY} bytes at most")
        except TransientError:
            return problems.unavailable("Kafka did not confirm; send the same again")
        except ClientDisconnect:
            return Response(status_code=499)

    async def _event(self, request: Request, client: Principal) -> Response:
        event = cloudevent.from_http(
            request.scope["headers"], await self._body(request), percent_encoded=True
        )
        event = inbox_event.as_from_outside(event)
        if not client.may_send(event.source):
            return _source_forbidden("this API key may not send events of this source")
        if event.source.startswith(inbox_event.OWN_SOURCES):
            return _source_forbidden("only our own stages send events of this source")
        fact = inbox_event.read(event)
        if refusal := self._refusal(client, event.source, fact.kind, event.subject):
            return _forbidden(refusal)
        kafka_source.check(event)
        return await self._publish(event, request)

    async def _order(self, request: Request, client: Principal) -> Response:
        text = "this header makes a repeated request safe: 1 to 255 printable ASCII characters, one value per order"
        key = idempotency_key.read(request.headers.get("idempotency-key", ""), text)
        if not key:
            raise PoisonError(Reason("idempotency_key_missing", "Idempotency-Key", text))
        source = f"/storefront/{client.name}"
        if not client.may_send(source):
            return _source_forbidden(
                f"this API key may not send events of the source {source}, as an order is"
            )
        body = await self._body(request)
        order = parse(OrderPlaced, body)
        event = CloudEvent(
            type=type_of("placed"),
            source=source,
            id=derived_id("intake", source, key),
            subject=order.order_id or self._order_id(client, source, key),
            time=now(),
            data=body,
        )
        if refusal := self._refusal(client, source, "placed", event.subject):
            return _forbidden(refusal)
        return await self._publish(event, request)

    def _order_id(self, client: Principal, source: str, key: str) -> str:
        """Raises PoisonError where the id could be that of several owners' orders."""
        try:
            prefix = self._rules.authority.prefix_for(source, client.owner)
        except LookupError:
            text = "this client places orders for several owners, so that an order needs an id with its owner's prefix"
            raise PoisonError(Reason("order_id_missing", "order_id", text)) from None
        return prefix + derived_id("order", source, key)

    def _refusal(self, client: Principal, source: str, kind: str, order_id: str) -> Reason | None:
        authority = self._rules.authority
        return client.refusal(kind, authority.owner_of(order_id)) or authority.refusal(source, kind, order_id)

    async def _dry_run(self, request: Request, _client: Principal) -> Response:
        order = parse(OrderPlaced, await self._body(request))
        verdict = self._rules.judge(Order.model_construct(**order.__dict__))
        reasons = [{"code": each.code, "field": each.field, "text": each.text} for each in verdict.reasons]
        return JSONResponse({"would_be": verdict.kind, "reasons": reasons})

    async def _publish(self, event: CloudEvent, request: Request) -> Response:
        extensions, links = trace_context.from_http(event.extensions, request.scope["headers"])
        extensions["partitionkey"] = event.subject
        event = replace(event, time=event.time or now(), extensions=extensions, links=links)
        event = makers.taken_by(event, self._revision)
        request.scope[EVENT] = event
        await self._publisher.publish(topics.INBOX, [event])
        location = f"{self._public_url}/orders/{event.subject}"
        body = {"order_id": event.subject, "event_id": event.id, "status_url": location}
        return Response(json.dumps(body), 202, {"Location": location}, "application/json")

    async def _body(self, request: Request) -> bytes:
        """Reads MAX_BODY bytes at most, whatever Content-Length says. Raises TooLargeError, TimeoutError."""
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > MAX_BODY:
            raise TooLargeError
        async with asyncio.timeout(self._body_seconds):
            return await read_body(request, MAX_BODY)


def _source_forbidden(text: str) -> Response:
    return _forbidden(Reason("source_forbidden", "source", text))


def _forbidden(reason: Reason) -> Response:
    return problems.problem(403, reason.code, reason.text, [reason])
