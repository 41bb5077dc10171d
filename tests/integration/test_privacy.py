"""One customer's orders go through every outcome that the pipeline has. No log, trace, metric or masked page may have
the customer's data."""

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import psycopg
import pytest
from support.events import event, paid
from support.local_shop import LocalShop, local_shop
from support.personal import CARD, EMAIL, NAME, PHONE, STREET, customers_order, in_base64, leaks
from support.waiting import until

from orderflow.messaging import topics
from orderflow_sandbox.servers.postgres import create_database, drop_database


@pytest.fixture(scope="module")
def shop(
    kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalShop]:
    name = f"test_{uuid.uuid4().hex}"
    own = create_database(database_url, name)
    with local_shop(kafka_bootstrap, own, tmp_path_factory.mktemp("private"), LOG_LEVEL="DEBUG") as opened:
        produce_every_outcome(opened)
        yield opened
    drop_database(database_url, name)


def produce_every_outcome(shop: LocalShop) -> None:
    good_orders(shop)
    refused_requests(shop)
    poison(shop)
    with shop.stand_ins.fault("smtp", "refuse"):
        failing_mail(shop, "refused")
    with shop.stand_ins.fault("smtp", "defer"), shop.stand_ins.fault("webhook", 500):
        failing_mail(shop, "deferred")
    dead_letter(shop)
    operators(shop)
    # Spans are exported in the sequence in which they ended: once the last one is there, all others are.
    last = f"{shop.prefix}last"
    shop.stages["intake"].binary(event("placed", last, customers_order()))
    shop.deliver()
    for stage in ("intake", "validate", "track", "notify"):
        shop.collector.until(lambda stage=stage: bool(shop.collector.of(order=last, stage=stage)))
    shop.stages["park"].binary(event("placed", last))
    shop.deliver()
    for stage in ("park", "shelve"):
        shop.collector.until(lambda stage=stage: bool(shop.collector.of(order=last, stage=stage)))


def placed(shop: LocalShop, name: str, **changes: Any) -> Any:
    return event("placed", f"{shop.prefix}{name}", customers_order(**changes))


def good_orders(shop: LocalShop) -> None:
    intake = shop.stages["intake"]
    for name, changes in (
        ("good", {}),
        ("rejected", {"total": 1}),
        ("held", {"lines": [{"sku": "A", "quantity": 100, "unit_price": 2000}], "total": 200_400}),
    ):
        assert intake.binary(placed(shop, name, **changes)).status_code == 202
    assert intake.structured(placed(shop, "structured")).status_code == 202
    document = customers_order(order_id=f"{shop.prefix}plain")
    posted = intake.http.post("/orders", json=document, headers={"Idempotency-Key": EMAIL})
    assert posted.status_code == 202
    assert intake.http.post("/orders/dry-run", json=document).status_code == 200
    shop.deliver()
    until(lambda: bool(shop.stand_ins.mails(EMAIL)))


def refused_requests(shop: LocalShop) -> None:
    http = shop.stages["intake"].http
    answers = [
        http.post(f"/orders/{EMAIL}", content=NAME),
        http.get("/orders", params={"email": EMAIL}),
        http.post("/orders", content=f'{{"customer": "{NAME}"', headers={"Idempotency-Key": "k"}),
        http.post("/orders", json={EMAIL: CARD}, headers={"Idempotency-Key": "k"}),
        http.post("/orders", json=customers_order(total=-1), headers={"Idempotency-Key": "k"}),
        http.post("/", content=NAME, headers={"ce-id": EMAIL, "ce-type": NAME, "ce-specversion": "1.0"}),
        http.post("/", json=customers_order(), headers={"traceparent": EMAIL, "tracestate": f"a={EMAIL}"}),
    ]
    assert {answer.status_code for answer in answers} == {400, 404, 405}


def poison(shop: LocalShop) -> None:
    """Sends poison to each stage that a KafkaSource feeds."""
    order_id = f"{shop.prefix}poison"
    good = placed(shop, "poison")
    poison_events = [
        replace(good, data=f"{NAME}, {STREET}, {PHONE}".encode()),
        replace(good, data=json.dumps({"customer": NAME, EMAIL: CARD}).encode()),
        replace(good, data=json.dumps(customers_order(total=CARD)).encode()),
        replace(good, data=json.dumps(customers_order(currency=EMAIL)).encode()),
        replace(good, data=json.dumps(customers_order(note=f"\0{NAME}")).encode()),
        replace(good, id=EMAIL, data=b"{"),
        replace(good, source=f"/{EMAIL}", data=b"{"),
        replace(good, type=EMAIL),
        replace(good, type=f"dev.orderflow.order.{EMAIL}.v1"),
        replace(good, time=EMAIL),
        good.with_extensions(traceparent=EMAIL, tracestate=f"a={EMAIL}", sequence=EMAIL, replay=EMAIL),
        replace(good, data=b"{").with_extensions(
            traceparent=EMAIL,
            tracestate=f"a={EMAIL}",
            sequence=EMAIL,
            replay=EMAIL,
            takenby=EMAIL,
            validatedby=EMAIL,
            trackedby=EMAIL,
        ),
        replace(good, data=b"{").with_extensions(customer=EMAIL),
        replace(good, data=b"{", content_type=f"text/plain; name={EMAIL}"),
    ]
    for stage in ("validate", "track", "notify", "shelve"):
        for each in poison_events:
            shop.stages[stage].binary(each)
        foreign_record = {
            "ce-type": "dev.knative.kafka.event",
            "ce-key": EMAIL,
            "ce-kafkaheadername": NAME,
            "ce-specversion": "1.0",
            "ce-id": "partition:1/offset:2",
            "ce-source": "/apis/x#orders",
        }
        assert shop.stages[stage].http.post("/", content=NAME, headers=foreign_record).status_code == 204
    shop.stages["validate"].binary(paid(order_id, amount=1))
    shop.deliver()


def failing_mail(shop: LocalShop, name: str) -> None:
    assert shop.stages["intake"].binary(placed(shop, name)).status_code == 202
    shop.deliver()


def dead_letter(shop: LocalShop) -> None:
    problem = base64.b64encode(json.dumps({"code": "unavailable", "title": "not now"}).encode()).decode()
    headers = {
        "ce-knativeerrordest": f"http://track.orderflow.svc.cluster.local/?x={EMAIL}",
        "ce-knativeerrorcode": "503",
        "ce-knativeerrordata": problem,
    }
    for dead in (placed(shop, "dead"), replace(placed(shop, "dead"), data=NAME.encode(), type=EMAIL)):
        assert shop.stages["park"].binary(dead, **headers).status_code == 204
    text = base64.b64encode(f"{NAME} was here".encode()).decode()
    shop.stages["park"].binary(placed(shop, "raw"), **(headers | {"ce-knativeerrordata": text}))
    shop.deliver()


def operators(shop: LocalShop) -> None:
    query = shop.query
    for path in ("/orders", "/api/orders", "/parked", "/api/parked", f"/orders/{EMAIL}"):
        query.get(path, params={"q": EMAIL, "find": NAME, "cursor": EMAIL})
    order_id = f"{shop.prefix}held"
    query.post(f"/api/orders/{order_id}/release", json={"reason": f"{NAME} called"})
    query.post(f"/api/orders/{EMAIL}/cancel", json={"reason": NAME, EMAIL: CARD})
    for parked_id in parked_ids(shop):
        query.get(f"/api/parked/{parked_id}", params={"reveal": 1})
        # An operator's reason is shown on purpose, so it has no personal data here.
        query.post(f"/api/parked/{parked_id}/replay", json={"reason": "again"})
    shop.deliver()


def parked_ids(shop: LocalShop) -> list[str]:
    with psycopg.connect(shop.database) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM parked ORDER BY id").fetchall()]


def test_she_was_there(shop: LocalShop) -> None:
    assert EMAIL in str(shop.stand_ins.mails(EMAIL))
    assert len(parked_ids(shop)) > 20
    assert any(leaks("kafka", seen.data) for topic, seen in shop.tap.seen if topic == topics.PARKED)
    revealed = [shop.query.get(f"/api/parked/{each}", params={"reveal": 1}).text for each in parked_ids(shop)]
    assert leaks("revealed", "".join(revealed))
    messages = {json.loads(line)["message"] for line in shop.log().splitlines() if line.startswith("{")}
    assert {"parked", "not now", "notification not sent", "dead letter parked"} <= messages
    outcomes = {span.attributes.get("orderflow.outcome") for span in shop.collector.spans}
    assert {"accepted", "rejected", "held", "parked", "applied", "sent", "not_now", "shelved"} <= outcomes


def test_no_log_shows_her(shop: LocalShop) -> None:
    assert leaks("logs", shop.log()) == []


def test_every_line_of_a_log_is_json_and_names_the_stage(shop: LocalShop) -> None:
    for name, stage in shop.stages.items():
        for line in stage.log.read_text().splitlines():
            assert json.loads(line)["stage"] == name


def test_no_trace_shows_her(shop: LocalShop) -> None:
    assert [leak for body in shop.collector.requests for leak in leaks("traces", body)] == []
    assert not any(span.events for span in shop.collector.spans), "an exception was recorded with its text"


def test_no_parked_event_shows_her_unless_somebody_asks(shop: LocalShop) -> None:
    all_leaks = []
    for parked_id in parked_ids(shop):
        for path in (f"/parked/{parked_id}", f"/api/parked/{parked_id}"):
            answer = shop.query.get(path)
            assert answer.status_code == 200
            all_leaks += leaks(path, answer.text)
    for path in ("/parked", "/api/parked"):
        all_leaks += leaks(path, shop.query.get(path, params={"limit": 200, "state": "all"}).text)
    assert all_leaks == []


def test_no_question_before_an_action_shows_her(shop: LocalShop) -> None:
    ids = parked_ids(shop)
    confirmations = {
        f"/parked/{each}/{verb}": shop.query.get(f"/parked/{each}/{verb}")
        for each in ids
        for verb in ("replay", "discard")
    }
    plan = shop.query.post("/api/parked/replay", json={"ids": ids[:100], "dry_run": True})
    assert plan.status_code == 200
    assert len(plan.json()["taken"]) > 3, "what was replayed before is poison again"
    page_leaks = [leak for path, page in confirmations.items() for leak in leaks(path, page.text)]
    assert page_leaks + leaks("plan", plan.text) == []


def test_no_metric_shows_her(shop: LocalShop) -> None:
    assert leaks("metrics", shop.query.get("/metrics").text) == []


def test_no_answer_of_intake_shows_her(shop: LocalShop) -> None:
    http: httpx.Client = shop.stages["intake"].http
    bad = {"customer": {"name": NAME, "email": "none"}, "currency": EMAIL, "total": CARD}
    answer = http.post("/orders", json=bad, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 400
    assert leaks("answer", answer.text) == []


@pytest.mark.parametrize(
    "leak",
    [
        f'{{"message": "parked", "customer": "{NAME}"}}',
        f"GET /orders?q={EMAIL.replace('@', '%40')}",
        f"payload={base64.b64encode(f'x{NAME}y'.encode()).decode()}",
        STREET.encode().hex(),
        b"\x0a\x10" + EMAIL.upper().encode(),
        PHONE,
        CARD.replace(" ", ""),
    ],
)
def test_the_search_finds_her_however_she_is_written(leak: str | bytes) -> None:
    assert leaks("here", leak)
    assert len(in_base64(NAME)) == 3
