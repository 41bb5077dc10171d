"""The spans of publishers and audit runs, as a collector gets them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from support.collector import Collector, Span
from support.events import paid, placed

from orderflow.adapters.telemetry.noop import NoopTelemetry
from orderflow.adapters.telemetry.traces import Telemetry
from orderflow.audit.report import Report
from orderflow.audit.tracing import traced
from orderflow.errors import TransientError
from orderflow.messaging import topics, trace_context
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.settings import StageSettings

FIRST = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECOND = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SAMPLED = 1


class FakePublisher:
    """Collects the published events, or fails."""

    def __init__(self, *, down: bool = False) -> None:
        self.events: list[CloudEvent] = []
        self._down = down

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        if self._down:
            raise TransientError("Ada Lovelace did not answer")
        self.events += events


def exported(collector: Collector, telemetry: Telemetry) -> dict[str, Span]:
    """Spans by order id; spans without one by name."""
    telemetry._flush_in_thread().join()
    return {span.attributes.get("orderflow.order_id", span.name): span for span in collector.spans}


async def test_orders_of_one_batch_stay_each_in_its_own_trace() -> None:
    publisher = FakePublisher()
    with Collector() as collector:
        telemetry = Telemetry(StageSettings(), collector.url, "track")
        events = [
            placed("o-1").with_extensions(traceparent=FIRST),
            placed("o-2").with_extensions(traceparent=SECOND),
            placed("o-3"),
        ]
        await telemetry.publisher(publisher).publish(topics.STATUS, events)
        spans = exported(collector, telemetry)
    assert (spans["o-1"].trace, spans["o-1"].parent) == tuple(FIRST.split("-")[1:3])
    assert (spans["o-2"].trace, spans["o-2"].parent) == tuple(SECOND.split("-")[1:3])
    assert spans["o-3"].parent == ""
    for event in publisher.events:
        span = spans[event.subject]
        assert event.extensions["traceparent"].split("-")[1:3] == [span.trace, span.id]


async def test_what_the_audit_sends_again_stands_alone_linked_to_where_it_was_and_to_the_run() -> None:
    with Collector() as collector:
        telemetry = Telemetry(StageSettings(), collector.url, "audit")
        publisher = telemetry.publisher(FakePublisher())

        async def run() -> Report:
            lost = placed("o-1").with_extensions(traceparent=FIRST)
            await publisher.publish(topics.INBOX, [trace_context.relink(lost)])
            return Report("r", datetime.now(UTC))

        await traced(run, telemetry)()
        spans = exported(collector, telemetry)
    again, whole = spans["o-1"], spans["audit run"]
    assert again.parent == ""
    assert again.trace not in {whole.trace, FIRST.split("-")[1]}
    assert again.links == (tuple(FIRST.split("-")[1:3]), (whole.trace, whole.id))
    assert whole.attributes["orderflow.outcome"] == "complete"


async def test_what_is_not_confirmed_is_a_failed_span_without_the_errors_text() -> None:
    with Collector() as collector:
        telemetry = Telemetry(StageSettings(), collector.url, "validate")
        with pytest.raises(TransientError):
            await telemetry.publisher(FakePublisher(down=True)).publish(topics.EVENTS, [paid("o-1")])
        span = exported(collector, telemetry)["o-1"]
    assert span.failed
    assert span.attributes["error.type"] == "TransientError"
    assert not any(b"Ada" in request for request in collector.requests)


async def test_a_run_that_fails_is_a_failed_span_without_the_errors_text() -> None:
    async def run() -> Report:
        raise ValueError("Ada Lovelace")

    with Collector() as collector:
        telemetry = Telemetry(StageSettings(), collector.url, "audit")
        with pytest.raises(ValueError, match="Ada"):
            await traced(run, telemetry)()
        span = exported(collector, telemetry)["audit run"]
    assert span.failed
    assert not any(b"Ada" in request for request in collector.requests)


@pytest.mark.parametrize("event_type", ["ada@example.org", "dev.orderflow.order.ada@example.org.v1"])
async def test_a_type_and_an_id_that_a_sender_made_up_are_not_told(event_type: str) -> None:
    event = CloudEvent(event_type, "/ada@example.org", "ada@example.org", "o-1")
    with Collector() as collector:
        telemetry = Telemetry(StageSettings(), collector.url, "validate")
        await telemetry.publisher(FakePublisher()).publish(topics.EVENTS, [event])
        span = exported(collector, telemetry)["o-1"]
    assert span.attributes["cloudevents.event_type"] == "unknown"
    assert "cloudevents.event_id" not in span.attributes


async def test_of_new_traces_the_part_that_is_asked_for_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    publisher = FakePublisher()
    with Collector() as collector:
        telemetry = Telemetry(StageSettings(), collector.url, "validate")
        events = [placed("o-1"), placed("o-2").with_extensions(traceparent=FIRST)]
        await telemetry.publisher(publisher).publish(topics.EVENTS, events)
        spans = exported(collector, telemetry)
    assert set(spans) == {"o-2"}
    flags = [int(event.extensions["traceparent"][-2:], 16) for event in publisher.events]
    assert [each & SAMPLED for each in flags] == [0, SAMPLED]


def test_without_traces_nothing_is_put_around_anything() -> None:
    telemetry: Any = NoopTelemetry()
    for wrap in (telemetry.endpoint, telemetry.publisher):
        inner = object()
        assert wrap(inner) is inner
