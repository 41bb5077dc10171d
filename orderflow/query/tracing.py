"""Spans around query's requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, request
from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind

from orderflow.adapters.telemetry.traces import SERVER_ERROR, mark_failed, parent_and_links
from orderflow.logs import SAFE_IDENTIFIER

if TYPE_CHECKING:
    from flask import Flask, Response

    from orderflow.adapters.telemetry.traces import Telemetry


def trace_requests(app: Flask, telemetry: Telemetry) -> None:
    """A span for each request under a route; /metrics has none."""

    @app.before_request
    def begin() -> None:
        if request.url_rule is None or request.path == "/metrics":
            return
        parent, links = parent_and_links(
            [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
        )
        attributes = {"http.request.method": request.method, "http.route": request.url_rule.rule}
        order_id = (request.view_args or {}).get("order_id", "")
        if SAFE_IDENTIFIER.fullmatch(order_id):
            attributes["orderflow.order_id"] = order_id
        g.span = telemetry.tracer.start_span(
            f"{request.method} {request.url_rule.rule}", parent, SpanKind.SERVER, attributes, links
        )
        g.span_token = attach(trace.set_span_in_context(g.span))

    @app.after_request
    def answered(response: Response) -> Response:
        if "span" in g:
            g.span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= SERVER_ERROR:
                mark_failed(g.span, str(response.status_code))
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        if "span" in g:
            detach(g.pop("span_token"))
            g.pop("span").end()
