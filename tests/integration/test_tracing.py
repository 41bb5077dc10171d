"""Traces from the storefront's request to the e-mail, with real stages, broker, database and collector."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.collector import Collector, Span
from support.events import event, order, paid, placed
from support.local_shop import LocalShop, local_shop
from support.stage import ROOT, Stage

from orderflow.messaging import topics
from orderflow_sandbox.servers.postgres import create_database, drop_database

STOREFRONT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The traceparent of a storefront's request."""
TRACE, SPAN = STOREFRONT.split("-")[1:3]
ELSEWHERE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def shop(
    kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalShop]:
    name = f"test_{uuid.uuid4().hex}"
    own = create_database(database_url, name)
    with local_shop(kafka_bootstrap, own, tmp_path_factory.mktemp("watched")) as opened:
        yield opened
    drop_database(database_url, name)


def chain(shop: LocalShop, last: Span) -> list[str]:
    """Stage and name of a span and of all its ancestors, the root first. Waits for each ancestor, because each stage
    exports its spans at its own time."""
    spans = [last]
    while spans[-1].parent not in {SPAN, ELSEWHERE.split("-")[2]}:
        spans += until(shop, trace=last.trace, id=spans[-1].parent)
    return [f"{span.stage}: {span.name}" for span in reversed(spans)]


def until(shop: LocalShop, count: int = 1, **attributes: object) -> list[Span]:
    """Waits for so many spans with these attributes."""
    shop.collector.until(lambda: len(shop.collector.of(**attributes)) >= count)
    return shop.collector.of(**attributes)


def test_one_order_is_one_trace_from_the_storefronts_request_to_the_mail(shop: LocalShop) -> None:
    order_id = f"{shop.prefix}whole"
    answer = shop.stages["intake"].http.post(
        "/orders",
        json=order(order_id=order_id),
        headers={"Idempotency-Key": order_id, "traceparent": STOREFRONT, "tracestate": "shop=7"},
    )
    assert answer.status_code == 202
    shop.deliver()
    (mail,) = until(shop, order=order_id, name="notify email")
    assert chain(shop, mail) == [
        "intake: POST /orders",
        "intake: send orders.inbox.v1",
        "validate: process orders.inbox.v1",
        "validate: send orders.events.v1",
        "track: process orders.events.v1",
        "track: send orders.status.v1",
        "notify: process orders.status.v1",
        "notify: notify email",
    ]
    assert mail.trace == TRACE
    assert all("shop=7" in seen.extensions["tracestate"] for seen in shop.found(topics.STATUS, order_id))
    spans = {span.name: span for span in shop.collector.of(order=order_id)}
    inbox = shop.found(topics.INBOX, order_id)[0]
    assert (
        spans["process orders.inbox.v1"].attributes.items()
        >= {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": "orders.inbox.v1",
            "messaging.consumer.group.name": "orderflow-validate",
            "cloudevents.event_id": inbox.id,
            "cloudevents.event_type": "dev.orderflow.order.placed.v1",
            "orderflow.outcome": "accepted",
            "http.response.status_code": 204,
        }.items()
    )
    assert spans["POST /orders"].attributes["http.response.status_code"] == 202
    assert spans["process orders.events.v1"].attributes["orderflow.outcome"] == "applied"
    assert spans["process orders.events.v1"].revision == "track-00001"
    assert [span.kind for span in (spans["POST /orders"], spans["send orders.events.v1"], mail)] == [
        "server",
        "producer",
        "client",
    ]


def test_a_duplicate_delivery_is_a_span_of_its_own_that_says_so(shop: LocalShop) -> None:
    order_id = f"{shop.prefix}twice"
    shop.stages["intake"].binary(placed(order_id, customer={"name": "A", "email": "twice@example.org"}))
    shop.deliver()
    (judged,) = shop.found(topics.EVENTS, order_id)
    assert shop.stages["track"].binary(judged).status_code == 204
    shop.deliver()
    track_spans = until(shop, 2, order=order_id, name="process orders.events.v1")
    assert [span.attributes["orderflow.outcome"] for span in track_spans] == ["applied", "duplicate"]
    assert {span.parent for span in track_spans} == {judged.extensions["traceparent"].split("-")[2]}
    notify_spans = until(shop, 2, order=order_id, name="process orders.status.v1")
    assert [span.attributes["orderflow.outcome"] for span in notify_spans] == ["sent", "duplicate"]


def test_an_event_brings_its_own_trace_and_the_request_is_linked(shop: LocalShop) -> None:
    for mode in ("binary", "structured"):
        sent = placed(f"{shop.prefix}{mode}")
        sent = sent.with_extensions(traceparent=STOREFRONT)
        send = getattr(shop.stages["intake"], mode)
        assert send(sent, traceparent=ELSEWHERE).status_code == 202
        (published,) = until(shop, order=sent.subject, name="send orders.inbox.v1")
        (request,) = until(shop, order=sent.subject, kind="server")
        assert published.trace == TRACE
        links = {link for span in (published, request) for link in span.links}
        assert {trace for trace, _ in links} & {ELSEWHERE.split("-")[1], request.trace}


def test_what_waited_is_announced_in_the_trace_that_let_it_and_linked_to_its_own(shop: LocalShop) -> None:
    order_id = f"{shop.prefix}early"
    payment = paid(order_id).with_extensions(traceparent=ELSEWHERE)
    order = placed(order_id).with_extensions(traceparent=STOREFRONT)
    for each in (payment, order):
        shop.stages["intake"].binary(each)
        shop.deliver()
    (waited,) = [
        span
        for span in until(shop, order=order_id, name="process orders.events.v1")
        if span.attributes["orderflow.outcome"] == "waiting"
    ]
    announced = until(shop, 2, order=order_id, name="send orders.status.v1")
    assert {span.trace for span in announced} == {TRACE}
    assert [span.links for span in announced] == [(), ((waited.trace, waited.id),)]


def test_poison_is_parked_and_its_replay_is_the_operators_trace_linked_to_the_first(shop: LocalShop) -> None:
    order_id = f"{shop.prefix}poison"
    shop.stages["validate"].binary(
        event("placed", order_id, {"total": "much"}).with_extensions(traceparent=STOREFRONT)
    )
    shop.deliver()
    (first,) = until(shop, order=order_id, name="process orders.inbox.v1")
    assert first.attributes["orderflow.outcome"] == "parked"
    assert first.attributes["orderflow.reason"]
    (shelved,) = until(shop, order=order_id, name="process orders.parked.v1")
    assert shelved.trace == first.trace == TRACE
    (parked,) = shop.found(topics.PARKED, order_id)
    answer = shop.query.post(
        f"/api/parked/{parked.id}/replay",
        json={"reason": "again"},
        headers={"Idempotency-Key": "again", "traceparent": ELSEWHERE},
    )
    assert answer.status_code == 202, answer.text
    shop.deliver()
    (replayed,) = until(shop, order=order_id, stage="shelve", name="send orders.inbox.v1")
    assert replayed.trace == ELSEWHERE.split("-")[1]
    assert replayed.links == ((first.trace, first.id),)
    assert chain(shop, replayed) == [
        "query: POST /api/parked/<parked_id>/replay",
        "query: send orders.parked.v1",
        "shelve: process orders.parked.v1",
        "shelve: send orders.inbox.v1",
    ]


def test_a_request_that_is_refused_is_told_without_its_path(shop: LocalShop) -> None:
    assert shop.stages["intake"].http.post("/orders/ada@example.org").status_code == 404
    (span,) = until(shop, stage="intake", name="POST")
    assert "ada" not in json.dumps(span.attributes)
    assert span.attributes["http.response.status_code"] == 404


def test_what_is_logged_while_an_event_is_handled_names_its_span(shop: LocalShop) -> None:
    sent = paid(f"{shop.prefix}logged", amount=-1).with_extensions(traceparent=STOREFRONT)
    assert shop.stages["validate"].binary(sent).status_code == 204
    (span,) = until(shop, order=sent.subject, stage="validate", kind="consumer")
    (line,) = [
        each for each in shop.stages["validate"].events_in_log() if each.get("order_id") == sent.subject
    ]
    assert (line["trace_id"], line["span_id"]) == (span.trace, span.id)


def test_a_trace_that_is_not_to_be_recorded_is_carried_and_not_exported(shop: LocalShop) -> None:
    order_id = f"{shop.prefix}unsampled"
    recorded = f"{shop.prefix}sampled"
    shop.stages["intake"].binary(placed(order_id).with_extensions(traceparent=STOREFRONT[:-1] + "0"))
    shop.deliver()
    shop.stages["intake"].binary(placed(recorded).with_extensions(traceparent=STOREFRONT))
    shop.deliver()
    # Spans are exported in the sequence in which they ended.
    for stage in ("intake", "validate", "track", "notify"):
        until(shop, order=recorded, stage=stage)
    (announced,) = shop.found(topics.STATUS, order_id)
    assert announced.extensions["traceparent"].split("-")[1::2] == [TRACE, "00"]
    assert not shop.collector.of(order=order_id)


def test_what_is_finished_is_exported_before_a_stage_that_is_told_to_end_has_gone(
    kafka_bootstrap: str, tmp_path: Path, shop: LocalShop
) -> None:
    with Collector() as collector:
        environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        with Stage("validate", tmp_path / "log", OTEL_BSP_SCHEDULE_DELAY="600000", **environment) as stage:
            assert stage.binary(placed("ending")).status_code == 204
            assert not collector.spans
            stage.stop(signal.SIGTERM)
        assert {span.name for span in collector.spans} == {
            "process orders.inbox.v1",
            "send orders.events.v1",
        }


def test_a_collector_that_is_away_costs_no_order(
    kafka_bootstrap: str, tmp_path: Path, shop: LocalShop
) -> None:
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with Stage("validate", tmp_path / "log", OTEL_BSP_SCHEDULE_DELAY="10", **environment) as stage:
        for number in range(20):
            assert stage.binary(placed(f"away-{number}")).status_code == 204


def test_without_an_endpoint_opentelemetry_is_not_even_imported() -> None:
    script = (
        "import sys; import functions.{0}; print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    for stage in ("intake", "validate", "track", "park", "shelve", "query"):
        done = subprocess.run(
            [sys.executable, "-c", script.format(stage)],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "KAFKA_BOOTSTRAP": "127.0.0.1:1",
                "DATABASE_URL": "postgresql://127.0.0.1:1/none",
                "RULES_FILE": str(ROOT / "examples/rules.toml"),
                "LOCAL_RUN": "true",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "[]", stage
