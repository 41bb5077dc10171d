"""Validate as a real process on a real broker: a verdict, an update that passes, or a parked event; it never
stops."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.events import event, order, paid, placed
from support.stage import Stage, binary_headers
from support.topics import Tap

from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics

CANARY = "zzyzx"


@pytest.fixture(scope="module")
def validate(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    create_order_topics(kafka_bootstrap, 4)
    log = tmp_path_factory.mktemp("validate") / "validate.log"
    with Stage("validate", log, KAFKA_BOOTSTRAP=kafka_bootstrap) as stage:
        yield stage


@pytest.fixture(scope="module")
def tap(kafka_bootstrap: str, validate: Stage) -> Iterator[Tap]:
    reader = Tap(kafka_bootstrap, topics.EVENTS, topics.PARKED)
    yield reader
    reader.close()


def on(topic: str, order_id: str) -> Callable[[str, CloudEvent], bool]:
    return lambda event_topic, event: event_topic == topic and event.subject == order_id


def parked(tap: Tap, order_id: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(tap.until(on(topics.PARKED, order_id))[0].data)
    return record


def test_an_order_becomes_accepted_rejected_or_held_in_both_modes(validate: Stage, tap: Tap) -> None:
    held_order = {
        "lines": [{"sku": "A", "quantity": 100, "unit_price": 2000}],
        "shipping": 0,
        "total": 200_000,
    }
    for name, changes, kind in (
        ("v-accepted", {}, "accepted"),
        ("v-rejected", {"total": 1, "currency": "CHF"}, "rejected"),
        ("v-held", held_order, "held"),
    ):
        event = placed(name, **changes)
        assert validate.binary(event).status_code == 204
        assert validate.structured(event).status_code == 204
        first, second = tap.until(on(topics.EVENTS, name), 2)
        assert first == second
        assert first.type == f"dev.orderflow.order.{kind}.v1"
        assert json.loads(first.data)["order"]["total"] == order(**changes)["total"]
    rejected = json.loads(tap.until(on(topics.EVENTS, "v-rejected"))[0].data)
    assert {reason["code"] for reason in rejected["reasons"]} == {"total_mismatch", "currency_not_sold"}


def test_what_kafkasource_adds_does_not_stop_an_event_nor_go_along(validate: Stage, tap: Tap) -> None:
    event = paid("v-added", extensions={"traceparent": "00-a-b-01"})
    headers = {"ce-knativekafkapartition": "3", "ce-knativekafkaoffset": "42", "Prefer": "reply"}
    assert validate.binary(event, **headers).status_code == 204
    (published,) = tap.until(on(topics.EVENTS, "v-added"))
    assert set(published.extensions) == {
        "partitionkey",
        "originsource",
        "originid",
        "origindigest",
        "contentdigest",
        "inboxplace",
        "validatedby",
        "traceparent",
    }


def test_an_id_keeps_its_percent_signs(validate: Stage, tap: Tap) -> None:
    assert validate.binary(paid("v-percent", id="a%41")).status_code == 204
    assert tap.until(on(topics.EVENTS, "v-percent"))[0].extensions["originid"] == "a%41"


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("v-json", {"data": b"{"}, "json_invalid"),
        ("v-empty", {"data": b""}, "json_invalid"),
        ("v-deep", {"data": b"[" * 200_000}, "json_invalid"),
        ("v-bytes", {"data": b"\xff\x00\xfe"}, "json_invalid"),
        ("v-number", {"data": b'{"amount":' + b"9" * 10_000 + b"}"}, "json_invalid"),
        ("v-type", {"type": "dev.orderflow.order.eaten.v1"}, "type_unknown"),
        ("v-time", {"time": "0001-01-01T00:00:00+14:00"}, "time_invalid"),
        ("v-negative", {"data": b'{"amount":-1,"currency":"EUR"}'}, "greater_than_equal"),
        ("v-currency", {"data": b'{"amount":1,"currency":"XXX"}'}, "unknown_currency"),
    ],
)
def test_each_poison_is_parked_with_its_reason_and_answered(
    validate: Stage, tap: Tap, name: str, changes: dict[str, Any], code: str
) -> None:
    event = replace(paid(name), **changes)
    assert validate.binary(event).status_code == 204
    record = parked(tap, name)
    assert record["stage"] == "validate"
    assert code in {reason["code"] for reason in record["reasons"]}


@pytest.mark.parametrize(("count", "length", "field"), [(33, 1, "x32"), (9, 1000, "x8")])
def test_more_attributes_than_a_gateway_carries_are_parked_with_the_name_of_the_first_beyond_it(
    validate: Stage, tap: Tap, count: int, length: int, field: str
) -> None:
    name = f"v-attributes-{count}"
    sent = paid(name, extensions={f"x{number}": "v" * length for number in range(count)})
    assert validate.binary(sent).status_code == 204
    assert [reason["field"] for reason in parked(tap, name)["reasons"]] == [field]


def test_a_record_that_is_no_cloudevent_and_a_tombstone_are_parked(validate: Stage, tap: Tap) -> None:
    for name, body in (("v-foreign", b"hello"), ("v-tombstone", None)):
        headers = {
            "ce-specversion": "1.0",
            "ce-type": "dev.knative.kafka.event",
            "ce-source": "/apis/v1/namespaces/orderflow/kafkasources/validate#orders.inbox.v1",
            "ce-id": f"partition:0/offset:{name}",
            "ce-subject": "partition:0#1",
            "ce-key": name,
        }
        request = httpx.Request("POST", f"{validate.http.base_url}/", headers=headers, content=body)
        assert validate.http.send(request).status_code == 204
        assert parked(tap, name)["reasons"][0]["code"] == "not_a_cloudevent"


def test_a_megabyte_of_faults_is_parked_like_any_other(validate: Stage, tap: Tap) -> None:
    flood = json.dumps(order() | {f"x{number}": 1 for number in range(80_000)}).encode()
    assert validate.binary(replace(placed("v-flood"), data=flood)).status_code == 204
    assert len(parked(tap, "v-flood")["reasons"]) == 100


def test_the_largest_order_that_the_inbox_takes_gets_a_verdict(validate: Stage, tap: Tap) -> None:
    line = {"sku": "A" * 64, "name": "\u5c0f" * 200, "quantity": 501, "unit_price": 1}
    data = json.dumps(order(lines=[line] * 1000), ensure_ascii=False).encode()
    assert 700_000 < len(data) < 1_000_000
    assert validate.binary(replace(placed("v-large"), data=data)).status_code == 204
    verdict = json.loads(tap.until(on(topics.EVENTS, "v-large"))[0].data)
    assert sum(reason["code"] == "quantity_over_limit" for reason in verdict["reasons"]) == 1000


def test_no_log_has_a_body_personal_data_or_a_senders_own_words(validate: Stage) -> None:
    bad = order(customer={"name": CANARY + "\x00", "email": CANARY}, metadata={f"{CANARY}@example.org": ""})
    bad[CANARY] = 1
    for data in (json.dumps(bad).encode(), CANARY.encode(), json.dumps({CANARY: [CANARY]}).encode()):
        assert validate.binary(replace(placed("v-canary"), data=data)).status_code == 204
    headers = binary_headers(placed("v-canary")) | {f"ce-{CANARY}-{CANARY}": CANARY}
    assert validate.http.post("/", content=b"{}", headers=headers).status_code == 204
    text = validate.log.read_text()
    assert '"parked"' in text
    assert CANARY not in text
    assert "Traceback" not in text


def test_events_are_posted(validate: Stage) -> None:
    answer = validate.http.get("/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_while_kafka_is_away_neither_a_verdict_nor_poison_is_called_done(tmp_path: Path) -> None:
    settings = {"KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}", "KAFKA_ACK_SECONDS": "1"}
    with Stage("validate", tmp_path / "validate.log", **settings) as stage:
        assert stage.binary(placed("v-away")).status_code == 503
        assert stage.binary(event("packed", "v-away", type="dev.orderflow.order.eaten.v1")).status_code == 503
