"""Traces by OpenTelemetry: wrappers around a stage's endpoint and publisher.

The endpoint's span replaces the `traceparent` of the event that the stage reads. So every event that the stage makes of
it, alone or in a batch with events of other traces, continues the event's own trace. The publisher makes a span for the
sending of each event, and the event carries that span's context. No span has personal data, a body, or free text of a
sender.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.requests import Request

from orderflow.adapters.http.endpoint import EVENT, OUTCOME, REASON
from orderflow.errors import PoisonError, TransientError
from orderflow.logs import SAFE_IDENTIFIER
from orderflow.messaging import parked_event, topics, trace_context
from orderflow.version import version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType
    from typing import TypeAlias

    from opentelemetry.trace import Span, Tracer
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.publisher import Publisher
    from orderflow.settings import StageSettings

    Attributes: TypeAlias = dict[str, str | int]

FLUSH_SECONDS: Final = 2.0
"""How long a process waits at its end for a collector that does not answer."""
_W3C: Final = TraceContextTextMapPropagator()
NO_CONTEXT: Final = Context()
"""The parent of a span that begins a trace."""
_TYPE: Final = re.compile(r"dev\.orderflow\.[a-z]+\.[a-z]+\.v[0-9]")

_PLACE_HEADERS: Final = {b"ce-knativekafkapartition": "partition", b"ce-knativekafkaoffset": "offset"}
SERVER_ERROR: Final = 500


class Telemetry:
    """Creates the tracer at first use, in the worker, because the thread that exports spans does not survive a fork."""

    def __init__(self, settings: StageSettings, endpoint: str, stage: str) -> None:
        self.stage = stage
        self._settings = settings
        self._endpoint = endpoint
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._start_lock = threading.Lock()
        self._terminating = False
        for handler in logging.getLogger().handlers:
            handler.addFilter(_add_span_ids)

    def endpoint(self, endpoint: Endpoint, *routes: str) -> Endpoint:
        """Wraps an endpoint: one of HTTP clients, if it has routes (paths), else one that a KafkaSource feeds."""
        return _HttpEndpoint(self, endpoint, frozenset(routes)) if routes else _EventEndpoint(self, endpoint)

    def publisher(self, publisher: Publisher) -> Publisher:
        return _TracedPublisher(self, publisher)

    @contextmanager
    def span(
        self,
        name: str,
        parent: Context | None,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[Link] = (),
    ) -> Iterator[Span]:
        """A span that is current while the block runs. An exception marks the span as failed, but it is not recorded,
        because its text and its stack trace may quote the data."""
        with self.tracer.start_as_current_span(
            name, parent, kind, attributes, links, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                mark_failed(span, type(error).__name__)
                raise

    @property
    def tracer(self) -> Tracer:
        return self._tracer or self._start()

    def _start(self) -> Tracer:
        with self._start_lock:
            if self._tracer is None:
                # The semantic conventions define faas.version as a function's immutable version: Knative's revision.
                resource = Resource(
                    {
                        "service.namespace": "orderflow",
                        "service.name": self.stage,
                        "service.version": version(),
                        "faas.name": self.stage,
                        "faas.version": self._settings.k_revision,
                        "telemetry.sdk.language": "python",
                    }
                )
                sampler = ParentBasedTraceIdRatio(self._settings.otel_traces_sampler_arg)
                provider = TracerProvider(sampler=sampler, resource=resource)
                exporter = OTLPSpanExporter(endpoint=f"{self._endpoint.rstrip('/')}/v1/traces")
                provider.add_span_processor(BatchSpanProcessor(exporter))
                self._provider = provider
                self._tracer = provider.get_tracer("orderflow")
                self._flush_on_sigterm()
        return self._tracer

    def _flush_on_sigterm(self) -> None:
        """Exports the finished spans before uvicorn gets the signal. The SDK relies on atexit, which does not run:
        uvicorn ends its process with the signal."""
        if threading.current_thread() is not threading.main_thread():
            return
        server_handler = signal.getsignal(signal.SIGTERM)
        if not callable(server_handler):
            return
        end_server = server_handler

        def on_sigterm(number: int, frame: FrameType | None) -> None:
            self._terminating = True

            def flush_and_end() -> None:
                self._flush_in_thread().join(FLUSH_SECONDS)
                end_server(number, frame)

            threading.Thread(target=flush_and_end, name="last-traces", daemon=True).start()

        signal.signal(signal.SIGTERM, on_sigterm)

    def _flush_in_thread(self, then: Callable[[], object] = lambda: None) -> threading.Thread:
        def flush() -> None:
            if self._provider is not None:
                self._provider.force_flush()
            then()

        thread = threading.Thread(target=flush, name="flushing-traces", daemon=True)
        thread.start()
        return thread

    async def before_response(self) -> None:
        """Exports the finished spans where the process is ending: it ends with its last response."""
        if not self._terminating:
            return
        loop = asyncio.get_running_loop()
        flushed = asyncio.Event()
        self._flush_in_thread(lambda: loop.call_soon_threadsafe(flushed.set))
        with suppress(TimeoutError):
            await asyncio.wait_for(flushed.wait(), FLUSH_SECONDS)


class _TracedEndpoint:
    """The base of both wrappers. The wrapped endpoint gets the request with the span's context in its headers."""

    def __init__(self, telemetry: Telemetry, inner: Endpoint) -> None:
        self._telemetry = telemetry
        self._inner = inner

    async def _traced(self, request: Request, name: str, kind: SpanKind, attributes: Attributes) -> Response:
        headers: list[tuple[bytes, bytes]] = request.scope["headers"]
        parent, links = parent_and_links(headers)
        with self._telemetry.span(name, parent, kind, attributes, links) as span:
            scope = dict(request.scope) | {"headers": _replace_context(headers, _context_of(span))}
            response = await self._inner.handle(Request(scope, request.receive))
            describe(
                span,
                scope.get(EVENT),
                scope.get(OUTCOME),
                scope.get(REASON),
            )
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= SERVER_ERROR:
                mark_failed(span, str(response.status_code))
        await self._telemetry.before_response()
        return response


class _EventEndpoint(_TracedEndpoint):
    """Wraps the endpoint of a stage that a KafkaSource feeds."""

    def __init__(self, telemetry: Telemetry, inner: Endpoint) -> None:
        super().__init__(telemetry, inner)
        topic = parked_event.TOPIC_OF.get(telemetry.stage)
        self._name = f"process {topic or 'dead letters'}"
        self._attributes: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
        }
        if topic is not None:
            self._attributes |= {
                "messaging.destination.name": topic,
                "messaging.consumer.group.name": topics.consumer_group(telemetry.stage),
            }

    async def handle(self, request: Request) -> Response:
        headers: list[tuple[bytes, bytes]] = request.scope["headers"]
        place = {_PLACE_HEADERS[name]: value for name, value in headers if name in _PLACE_HEADERS}
        attributes = dict(self._attributes)
        if place.get("partition", b"").isdigit():
            attributes["messaging.destination.partition.id"] = place["partition"].decode()
        if place.get("offset", b"").isdigit():
            attributes["messaging.kafka.offset"] = int(place["offset"])
        return await self._traced(request, self._name, SpanKind.CONSUMER, attributes)


class _HttpEndpoint(_TracedEndpoint):
    """Wraps the endpoint of a stage that serves HTTP clients. A path that is not a route may contain any text, so the
    span does not have it."""

    def __init__(self, telemetry: Telemetry, inner: Endpoint, routes: frozenset[str]) -> None:
        super().__init__(telemetry, inner)
        self._routes = routes

    async def handle(self, request: Request) -> Response:
        method = request.method if request.method in _METHODS else "_OTHER"
        path = request.scope["path"].rstrip("/") or "/"
        attributes: Attributes = {"http.request.method": method, "url.scheme": request.scope["scheme"]}
        if path in self._routes:
            attributes["http.route"] = path
        name = f"{method} {path}" if path in self._routes else method
        return await self._traced(request, name, SpanKind.SERVER, attributes)


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _TracedPublisher:
    """Makes a span for each event, in the event's own trace, from publish() to the brokers' confirmation."""

    def __init__(self, telemetry: Telemetry, inner: Publisher) -> None:
        self._telemetry = telemetry
        self._inner = inner

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        spans = [self._start_span(topic, event) for event in events]
        traced = [
            event.with_extensions(**_context_of(span)) for event, span in zip(events, spans, strict=True)
        ]
        try:
            await self._inner.publish(topic, traced)
        except (TransientError, PoisonError) as error:
            for span in spans:
                mark_failed(span, type(error).__name__)
            raise
        finally:
            for span in spans:
                span.end()

    def _start_span(self, topic: str, event: CloudEvent) -> Span:
        current = trace.get_current_span().get_span_context()
        links = [link for traceparent in event.links if (link := _link(traceparent))]
        if trace_context.is_parent(event.extensions.get(trace_context.PARENT, "")):
            parent = extract(event.extensions)
        elif links:
            parent = NO_CONTEXT
            links += [Link(current)] if current.is_valid else []
        else:
            parent = trace.set_span_in_context(trace.get_current_span(), NO_CONTEXT)
        attributes: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        span = self._telemetry.tracer.start_span(
            f"send {topic}", parent, SpanKind.PRODUCER, attributes, links
        )
        describe(span, event)
        return span


def extract(extensions: Mapping[str, str]) -> Context:
    """The trace context in an event's extensions."""
    return _W3C.extract(extensions, NO_CONTEXT)


def parent_and_links(headers: Sequence[tuple[bytes, bytes]]) -> tuple[Context, list[Link]]:
    """The parent of a request's span, and the span's links; trace_context makes the choice."""
    event_context = {
        name[3:].decode(): value.decode("latin-1")
        for name, value in headers
        if name in {b"ce-traceparent", b"ce-tracestate"}
    }
    context, links = trace_context.from_http(event_context, headers)
    return extract(context), [link for traceparent in links if (link := _link(traceparent))]


def _replace_context(
    headers: Sequence[tuple[bytes, bytes]], context: dict[str, str]
) -> list[tuple[bytes, bytes]]:
    """The headers with this trace context, both as the request's and as the event's."""
    replaced = [header for header in headers if header[0] not in _CONTEXT_HEADERS]
    for name, value in context.items():
        replaced += [(name.encode(), value.encode()), (f"ce-{name}".encode(), value.encode())]
    return replaced


_CONTEXT_HEADERS: Final = frozenset({b"traceparent", b"tracestate", b"ce-traceparent", b"ce-tracestate"})


def _context_of(span: Span) -> dict[str, str]:
    """The span's traceparent and tracestate."""
    context: dict[str, str] = {}
    _W3C.inject(context, trace.set_span_in_context(span, NO_CONTEXT))
    return context


def _link(traceparent: str) -> Link | None:
    context = trace.get_current_span(extract({trace_context.PARENT: traceparent})).get_span_context()
    return Link(context) if context.is_valid else None


def describe(
    span: Span, event: CloudEvent | None, outcome: str | None = None, reason: str | None = None
) -> None:
    if not span.is_recording():
        return
    if event is not None:
        ids = {"orderflow.order_id": event.subject, "cloudevents.event_id": event.id}
        span.set_attributes({name: value for name, value in ids.items() if SAFE_IDENTIFIER.fullmatch(value)})
        span.set_attribute("cloudevents.event_type", event.type if _TYPE.fullmatch(event.type) else "unknown")
    if outcome:
        span.set_attribute("orderflow.outcome", outcome)
    if reason:
        span.set_attribute("orderflow.reason", reason)


def mark_failed(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))


def _add_span_ids(record: logging.LogRecord) -> bool:
    """A log filter that adds the ids of the current span to each line and drops no line."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = trace.format_trace_id(context.trace_id)
        record.span_id = trace.format_span_id(context.span_id)
    return True
