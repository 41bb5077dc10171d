"""Traces by OpenTelemetry: what is put around a stage's door, publisher and channels where they are recorded.

The door's span becomes the `traceparent` of the event that the stage takes, so whatever the stage makes of it, now
or in a batch with others', goes on in the event's own trace. The publisher gives each event a span of its sending
and sends that span's context along. No span has personal data, a body, or a sender's own words.
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
from orderflow.errors import PoisonError, UnavailableError
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
    from orderflow.messaging.cloudevent import Envelope
    from orderflow.messaging.publisher import Publisher
    from orderflow.settings import StageSettings

    Attributes: TypeAlias = dict[str, str | int]

FLUSH_SECONDS: Final = 2.0
"""How long a process that was told to end waits for a collector that does not answer."""
_W3C: Final = TraceContextTextMapPropagator()
NO_CONTEXT: Final = Context()
"""No parent: a trace of its own."""
_TYPE: Final = re.compile(r"dev\.orderflow\.[a-z]+\.[a-z]+\.v[0-9]")

_PLACE: Final = {b"ce-knativekafkapartition": "partition", b"ce-knativekafkaoffset": "offset"}
SERVER_ERROR: Final = 500


class Telemetry:
    """Everything is made at first use, in the worker: the thread that exports would not survive a fork."""

    def __init__(self, settings: StageSettings, endpoint: str, stage: str) -> None:
        self.stage = stage
        self._settings = settings
        self._endpoint = endpoint
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._starting = threading.Lock()
        self._ending = False
        for handler in logging.getLogger().handlers:
            handler.addFilter(_name_span)

    def endpoint(self, endpoint: Endpoint, *routes: str) -> Endpoint:
        """Without routes the endpoint handles events, with routes it handles HTTP requests under these."""
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
        """A span that is current for as long as the block runs. An exception marks it as failed and is not recorded:
        its text and its stack trace may quote the data."""
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
        with self._starting:
            if self._tracer is None:
                # Knative's revision is what the conventions call a function's immutable version.
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
                self._flush_before_the_end()
        return self._tracer

    def _flush_before_the_end(self) -> None:
        """uvicorn ends itself by the signal that it got, past atexit, which the SDK relies on. So that signal is
        passed on to it only once what is finished has been exported."""
        if threading.current_thread() is not threading.main_thread():
            return
        server = signal.getsignal(signal.SIGTERM)
        if not callable(server):
            return
        end = server

        def ending(number: int, frame: FrameType | None) -> None:
            self._ending = True

            def flush_and_end() -> None:
                self._flushing().join(FLUSH_SECONDS)
                end(number, frame)

            threading.Thread(target=flush_and_end, name="last-traces", daemon=True).start()

        signal.signal(signal.SIGTERM, ending)

    def _flushing(self, then: Callable[[], object] = lambda: None) -> threading.Thread:
        def flush() -> None:
            if self._provider is not None:
                self._provider.force_flush()
            then()

        thread = threading.Thread(target=flush, name="flushing-traces", daemon=True)
        thread.start()
        return thread

    async def before_answer(self) -> None:
        """After it was told to end, the server is gone with its last answer: its spans have to be out before."""
        if not self._ending:
            return
        loop = asyncio.get_running_loop()
        flushed = asyncio.Event()
        self._flushing(lambda: loop.call_soon_threadsafe(flushed.set))
        with suppress(TimeoutError):
            await asyncio.wait_for(flushed.wait(), FLUSH_SECONDS)


class _TracedEndpoint:
    """Both kinds of endpoint: the stage sees the request with this span as its trace."""

    def __init__(self, telemetry: Telemetry, inner: Endpoint) -> None:
        self._telemetry = telemetry
        self._inner = inner

    async def _traced(self, request: Request, name: str, kind: SpanKind, attributes: Attributes) -> Response:
        headers: list[tuple[bytes, bytes]] = request.scope["headers"]
        parent, links = origin_of(headers)
        with self._telemetry.span(name, parent, kind, attributes, links) as span:
            scope = dict(request.scope) | {"headers": _with_trace(headers, _injected(span))}
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
        await self._telemetry.before_answer()
        return response


class _EventEndpoint(_TracedEndpoint):
    """Around a stage that a KafkaSource delivers to."""

    def __init__(self, telemetry: Telemetry, inner: Endpoint) -> None:
        super().__init__(telemetry, inner)
        topic = parked_event.TOPIC_OF.get(telemetry.stage)
        self._name = f"process {topic or 'dead letters'}"
        self._fixed: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
        }
        if topic is not None:
            self._fixed |= {
                "messaging.destination.name": topic,
                "messaging.consumer.group.name": topics.consumer_group(telemetry.stage),
            }

    async def handle(self, request: Request) -> Response:
        place = {_PLACE[name]: value for name, value in request.scope["headers"] if name in _PLACE}
        attributes = dict(self._fixed)
        if place.get("partition", b"").isdigit():
            attributes["messaging.destination.partition.id"] = place["partition"].decode()
        if place.get("offset", b"").isdigit():
            attributes["messaging.kafka.offset"] = int(place["offset"])
        return await self._traced(request, self._name, SpanKind.CONSUMER, attributes)


class _HttpEndpoint(_TracedEndpoint):
    """Around a stage that outsiders call. What is no route of ours may hold anything, and is not told."""

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
    """A span for each event, from handing it over to the brokers' confirmation, in the event's own trace."""

    def __init__(self, telemetry: Telemetry, inner: Publisher) -> None:
        self._telemetry = telemetry
        self._inner = inner

    async def publish(self, topic: str, events: Sequence[Envelope]) -> None:
        spans = [self._begin(topic, event) for event in events]
        sent = [event.with_extensions(**_injected(span)) for event, span in zip(events, spans, strict=True)]
        try:
            await self._inner.publish(topic, sent)
        except (UnavailableError, PoisonError) as error:
            for span in spans:
                mark_failed(span, type(error).__name__)
            raise
        finally:
            for span in spans:
                span.end()

    def _begin(self, topic: str, event: Envelope) -> Span:
        here = trace.get_current_span().get_span_context()
        links = [link for each in event.links if (link := _link(each))]
        if trace_context.is_parent(event.extensions.get(trace_context.PARENT, "")):
            parent = extract(event.extensions)
        elif links:
            parent = NO_CONTEXT
            links += [Link(here)] if here.is_valid else []
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


def extract(carrier: Mapping[str, str]) -> Context:
    """The trace context among an event's extensions."""
    return _W3C.extract(carrier, NO_CONTEXT)


def origin_of(headers: Sequence[tuple[bytes, bytes]]) -> tuple[Context, list[Link]]:
    """What a request's span is part of, and what it is linked to: the same choice as tracing.entered."""
    own = {
        name[3:].decode(): value.decode("latin-1")
        for name, value in headers
        if name in {b"ce-traceparent", b"ce-tracestate"}
    }
    context, links = trace_context.from_http(own, headers)
    return extract(context), [link for each in links if (link := _link(each))]


def _with_trace(headers: Sequence[tuple[bytes, bytes]], context: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers with this trace context, as a request's own and as its event's."""
    kept = [each for each in headers if each[0] not in _CONTEXT_HEADERS]
    for name, value in context.items():
        kept += [(name.encode(), value.encode()), (f"ce-{name}".encode(), value.encode())]
    return kept


_CONTEXT_HEADERS: Final = frozenset({b"traceparent", b"tracestate", b"ce-traceparent", b"ce-tracestate"})


def _injected(span: Span) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span, NO_CONTEXT))
    return carrier


def _link(parent: str) -> Link | None:
    context = trace.get_current_span(extract({trace_context.PARENT: parent})).get_span_context()
    return Link(context) if context.is_valid else None


def describe(
    span: Span, event: Envelope | None, outcome: str | None = None, reason: str | None = None
) -> None:
    if not span.is_recording():
        return
    if event is not None:
        told = {"orderflow.order_id": event.subject, "cloudevents.event_id": event.id}
        span.set_attributes({name: value for name, value in told.items() if SAFE_IDENTIFIER.fullmatch(value)})
        span.set_attribute("cloudevents.event_type", event.type if _TYPE.fullmatch(event.type) else "unknown")
    if outcome:
        span.set_attribute("orderflow.outcome", outcome)
    if reason:
        span.set_attribute("orderflow.reason", reason)


def mark_failed(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))


def _name_span(record: logging.LogRecord) -> bool:
    """Of a log filter: what is said while a span is current carries its ids."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = trace.format_trace_id(context.trace_id)
        record.span_id = trace.format_span_id(context.span_id)
    return True
