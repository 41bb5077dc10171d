"""A collector of traces on loopback: OTLP over HTTP, as the stages' exporter speaks it."""

import gzip
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from support.waiting import until

KINDS = {number: name.removeprefix("SPAN_KIND_").lower() for name, number in trace_pb2.Span.SpanKind.items()}


@dataclass(frozen=True)
class Span:
    """Ids are hexadecimal, parent is empty for the first span of a trace, links are (trace, span)."""

    name: str
    stage: str
    revision: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    failed: bool
    events: int


class Collector:
    """Keeps every span, and every request as it came."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.requests: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(self.path, body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(body)
        self.requests.append(body)
        self.spans += [
            _span(_plain(each.resource.attributes), span)
            for each in request.resource_spans
            for scope in each.scope_spans
            for span in scope.spans
        ]

    def of(self, **fields: Any) -> list[Span]:
        """Spans with these fields; with `order` those that tell of that order."""
        order = fields.pop("order", None)
        return [
            span
            for span in list(self.spans)
            if all(getattr(span, name) == value for name, value in fields.items())
            and order in {None, span.attributes.get("orderflow.order_id")}
        ]

    def until(self, condition: Callable[[], bool]) -> None:
        until(condition)


def _span(resource: dict[str, Any], span: trace_pb2.Span) -> Span:
    return Span(
        name=span.name,
        stage=resource["service.name"],
        revision=resource["faas.version"],
        kind=KINDS[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_plain(span.attributes),
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        events=len(span.events),
    )


def _plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
