"""Intake over HTTP, as a real process on a real broker."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.events import order, paid, placed
from support.stage import Stage, binary_headers
from support.topics import Tap

from orderflow.adapters.http.api_keys import new_key, toml
from orderflow.adapters.http.quotas import Quota
from orderflow.messaging import topics
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics

CANARY = "Zzyzx Canary"


@pytest.fixture(scope="module")
def intake(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    create_order_topics(kafka_bootstrap, 4)
    log = tmp_path_factory.mktemp("intake") / "intake.log"
    with Stage("intake", log, KAFKA_BOOTSTRAP=kafka_bootstrap, PUBLIC_URL="https://shop.example/") as stage:
        yield stage


@pytest.fixture(scope="module")
def tap(kafka_bootstrap: str, intake: Stage) -> Iterator[Tap]:
    reader = Tap(kafka_bootstrap, topics.INBOX)
    yield reader
    reader.close()


def post(intake: Stage, body: Any, key: str = "key", path: str = "/orders", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {"Content-Type": "application/json", "Idempotency-Key": key} | headers
    return intake.http.post(path, content=content, headers=all_headers)


def fields(answer: httpx.Response) -> set[str]:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return {each["field"] for each in document["errors"]}


def test_an_order_is_in_the_topic_by_the_time_of_the_202_and_a_repetition_is_the_same_event(
    intake: Stage, tap: Tap
) -> None:
    first, second = post(intake, order(), "repeat"), post(intake, order(), "repeat")
    assert (first.status_code, first.json()) == (202, second.json())
    order_id = first.json()["order_id"]
    assert first.headers["location"] == f"https://shop.example/orders/{order_id}"
    events = tap.until(lambda _, event: event.subject == order_id, 2)
    assert {(event.source, event.id) for event in events} == {("/storefront/local", first.json()["event_id"])}
    assert events[0].extensions["partitionkey"] == order_id
    assert events[0].extensions["takenby"] == "intake-00001"
    assert post(intake, order(), "another").json()["order_id"] != order_id


def test_a_shop_may_give_the_order_id(intake: Stage) -> None:
    assert post(intake, order(order_id="shop-7"), "own").json()["order_id"] == "shop-7"


def test_both_modes_of_cloudevents_are_taken(intake: Stage, tap: Tap) -> None:
    for number, send in enumerate((intake.binary, intake.structured)):
        event_sent = paid(f"mode-{number}")
        assert send(event_sent).status_code == 202
        (published,) = tap.until(lambda _, event, event_sent=event_sent: event.subject == event_sent.subject)
        assert (published.source, published.id, json.loads(published.data)) == (
            event_sent.source,
            event_sent.id,
            json.loads(event_sent.data),
        )


def test_what_only_our_own_stages_say_of_an_event_is_taken_away(intake: Stage, tap: Tap) -> None:
    forged = {"replay": "1", "firstplace": "an-id:0:1", "inboxplace": "an-id:0:1"}
    for number, send in enumerate((intake.binary, intake.structured)):
        sent = paid(f"forged-{number}").with_extensions(sequence="7", **forged)
        assert send(sent).status_code == 202
        (found,) = tap.until(lambda _, event, sent=sent: event.subject == sent.subject)
        assert found.extensions["sequence"] == "7"
        assert not set(forged) & set(found.extensions)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", ""),
        (b"", ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (order(total=-1), "total"),
        (order(total=10**30), "total"),
        (order(currency="XXX"), "currency"),
        (order(currency=None), "currency"),
        (order(lines=[]), "lines"),
        (order(customer={"name": CANARY, "email": "none"}), "customer.email"),
        (order(typo=1), "typo"),
        (order(order_id="a b"), "order_id"),
        (order(order_id="a\x00b"), "order_id"),
    ],
)
def test_bad_input_is_a_400_that_names_the_field(intake: Stage, body: Any, field: str) -> None:
    answer = post(intake, body)
    assert answer.status_code == 400
    assert field in fields(answer)
    assert CANARY not in answer.text


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
def test_without_a_usable_idempotency_key_nothing_is_taken(intake: Stage, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")} if key else {}
    answer = intake.http.post("/orders", json=order(), headers=headers)
    assert (answer.status_code, fields(answer)) == (400, {"Idempotency-Key"})


def test_a_malformed_cloudevent_is_a_400_that_names_the_attribute(intake: Stage) -> None:
    good = placed("ce-1")
    for changed, field in (
        (replace(good, id=""), "id"),
        (replace(good, subject="../x"), "subject"),
        (replace(good, subject=""), "subject"),
        (replace(good, time="noon"), "time"),
        (replace(good, type="com.example.other"), "type"),
        (replace(good, type="dev.orderflow.order.accepted.v1"), "type"),
    ):
        answer = intake.binary(changed)
        assert (answer.status_code, field in fields(answer)) == (400, True), field


WRAPPED_SOURCES = ("a[b", "::", "x:", "http://", "//", "/a^b", "/%zz", "1x:y", "#a#b", "http://[g::1]/")
WRAPPED_TIMES = (
    "2026-11-29T10:00:00+18:30",
    "2026-11-29T10:00:00+0200",
    "2026-11-29 10:00:00Z",
    "20261129T100000Z",
    "2026-W48-7T10:00:00Z",
    "2026-11-29T10Z",
    "2026-11-29T10:00:00,5Z",
    "2026-11-29T10:00:00.1234567890Z",
)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(({"source": source}, "source") for source in WRAPPED_SOURCES),
        *(({"extensions": {"dataschema": schema}}, "dataschema") for schema in WRAPPED_SOURCES),
        *(({"time": time}, "time") for time in WRAPPED_TIMES),
        ({"extensions": {f"x{number}": "" for number in range(33)}}, "x32"),
        ({"extensions": {f"x{number}": "v" * 1000 for number in range(9)}}, "x8"),
        ({"extensions": {"x": "v" * 1025}}, "x"),
    ],
)
def test_what_kafkasource_would_not_deliver_as_this_event_is_a_400_in_both_modes(
    intake: Stage, changes: dict[str, Any], field: str
) -> None:
    for send in (intake.binary, intake.structured):
        answer = send(paid("wrapped", **changes))
        assert (answer.status_code, fields(answer)) == (400, {field})


@pytest.mark.parametrize(
    "content_type",
    [
        "application/cloudevents",
        "application/cloudevents+xml",
        "application/cloudevents-batch+json",
        "application/cloudevents+json ;charset=utf-8",
        "Application/CloudEvents+JSON",
    ],
)
def test_a_content_type_of_cloudevents_is_structured_or_a_400(intake: Stage, content_type: str) -> None:
    sent = paid("content-type")
    answer = intake.http.post(
        "/", content=sent.data, headers=binary_headers(sent) | {"content-type": content_type}
    )
    structured = content_type.partition(";")[0].strip().lower().endswith("cloudevents+json")
    assert (answer.status_code, fields(answer)) == (400, {"specversion" if structured else "content-type"})
    document = sent.attributes() | {"datacontenttype": content_type, "data": {}}
    answer = intake.http.post("/", json=document, headers={"content-type": "application/cloudevents+json"})
    assert (answer.status_code, fields(answer)) == (400, {"datacontenttype"})


def test_what_a_gateway_just_carries_is_taken(intake: Stage, tap: Tap) -> None:
    extensions = {f"x{number}": "v" * 240 for number in range(32)}
    sent = paid("largest", source="urn:shop:web", time="2026-11-29T10:00+02", extensions=extensions)
    context = {"traceparent": f"00-{'4b' * 16}-{'b7' * 8}-01", "tracestate": "shop=" + "x" * 500}
    assert intake.binary(sent, **context).status_code == 202
    (found,) = tap.until(lambda _, event: event.subject == "largest")
    assert found.extensions == extensions | context | {"partitionkey": "largest"}


def test_a_body_over_256_kib_is_a_413_whether_or_not_it_is_announced(intake: Stage) -> None:
    large = b" " * (256 * 1024 + 1)
    assert post(intake, large).status_code == 413

    def parts() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * 65_536

    headers = {"Content-Type": "application/json", "Idempotency-Key": "large"}
    assert intake.http.post("/orders", content=parts(), headers=headers).status_code == 413


def test_other_paths_and_methods_are_told_so(intake: Stage) -> None:
    assert post(intake, order(), path="/nowhere").status_code == 404
    response = intake.http.get("/orders")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_dry_run_says_what_would_become_of_it_and_publishes_nothing(intake: Stage, tap: Tap) -> None:
    assert post(intake, order(), path="/orders/dry-run").json() == {"would_be": "accepted", "reasons": []}
    held_order = order(lines=[{"sku": "A", "quantity": 100, "unit_price": 2000}], shipping=0, total=200_000)
    assert post(intake, held_order, path="/orders/dry-run").json()["would_be"] == "held"
    rejected_order = order(order_id="dry", total=1, currency="CHF")
    dry_run = post(intake, rejected_order, path="/orders/dry-run").json()
    assert dry_run["would_be"] == "rejected"
    assert {each["field"] for each in dry_run["reasons"]} == {"total", "currency"}
    after = post(intake, order(order_id="after-dry"), "after-dry")
    tap.until(lambda _, event: event.subject == after.json()["order_id"])
    assert not [event for _, event in tap.seen if event.subject == "dry"]


def test_no_log_has_a_body_or_personal_data(intake: Stage) -> None:
    post(intake, order(customer={"name": CANARY, "email": "canary@example.org"}), "canary")
    post(intake, order(customer={"name": CANARY + "\x00", "email": "canary"}), "canary")
    log = intake.log.read_text().lower()
    assert "canary" not in log
    assert "traceback" not in log


def test_neither_has_it_what_a_sender_wrote_in_places_for_names(intake: Stage) -> None:
    post(intake, order(metadata={"canary@example.org": ""}) | {"canary@example.net": 1}, "names")
    headers = binary_headers(placed("canary-header")) | {"ce-canary-canary": "canary"}
    assert intake.http.post("/", content=b"{}", headers=headers).status_code == 400
    headers = {"content-type": "application/cloudevents+json"}
    assert (
        intake.http.post("/", content=b'{"specversion":"1.0","canary":{}}', headers=headers).status_code
        == 400
    )
    assert "canary" not in intake.log.read_text().lower()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b'{"specversion":"1.0"}',
        b'{"specversion":"1.0","type":"dev.orderflow.order.packed.v1","source":"/s","id":"\\u0000","subject":"a"}',
        b'{"specversion":"1.0","type":"dev.orderflow.order.packed.v1","source":"/s","id":"1","subject":"\xc3\xa9"}',
    ],
)
def test_a_malformed_structured_cloudevent_is_a_400(intake: Stage, body: bytes) -> None:
    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    answer = intake.http.post("/", content=body, headers=headers)
    assert answer.status_code == 400
    assert fields(answer)


def test_a_batch_of_cloudevents_is_a_400(intake: Stage) -> None:
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert fields(intake.http.post("/", content=b"[]", headers=headers)) == {"content-type"}


def test_binary_attributes_are_percent_decoded_once_and_reach_the_topic_so(intake: Stage, tap: Tap) -> None:
    assert intake.binary(paid("percent", id="a%2541")).status_code == 202
    (event,) = tap.until(lambda _, event: event.subject == "percent")
    assert event.id == "a%41"


def test_the_same_key_with_another_order_is_the_same_event_for_track_to_refuse(
    intake: Stage, tap: Tap
) -> None:
    first, second = post(intake, order(), "reused"), post(intake, order(metadata={"gift": "yes"}), "reused")
    assert first.json() == second.json()
    events = tap.until(lambda _, event: event.subject == first.json()["order_id"], 2)
    assert events[0].id == events[1].id
    assert events[0].data != events[1].data


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"KAFKA_BOOTSTRAP": ""}, "KAFKA_BOOTSTRAP"),
        ({"RULES_FILE": "/nowhere/rules.toml"}, "RULES_FILE"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        ({"API_KEYS_FILE": "/nowhere/keys.toml"}, "API_KEYS_FILE"),
        ({"KAFKA_CONFIG_FILE": "/nowhere/kafka.properties"}, "KAFKA_CONFIG_FILE"),
    ],
)
def test_a_bad_setting_is_one_clear_line_and_no_start(
    settings: dict[str, str], setting: str, tmp_path: Path
) -> None:
    log = tmp_path / "intake.log"
    with (
        pytest.raises(AssertionError, match="ended"),
        Stage("intake", log, **({"KAFKA_BOOTSTRAP": "127.0.0.1:1"} | settings)),
    ):
        pass
    (line,) = log.read_text().splitlines()
    assert setting in line


def test_without_keys_it_does_not_start_and_says_so_in_one_line(kafka_bootstrap: str, tmp_path: Path) -> None:
    log = tmp_path / "intake.log"
    with (
        pytest.raises(AssertionError, match="ended"),
        Stage("intake", log, KAFKA_BOOTSTRAP=kafka_bootstrap, LOCAL_RUN="false"),
    ):
        pass
    assert "API_KEYS_FILE" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_only_a_valid_key_opens_and_only_for_its_sources(kafka_bootstrap: str, tmp_path: Path) -> None:
    web_key, web_entry = new_key("web", ["intake"], ["/shop/*"])
    reader_key, reader_entry = new_key("reader", ["query"])
    keys = tmp_path / "keys.toml"
    shop_key, shop_entry = new_key("shop", ["intake"], ["/storefront/shop"])
    keys.write_text(toml(web_entry) + toml(reader_entry) + toml(shop_entry))
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "LOCAL_RUN": "false", "API_KEYS_FILE": str(keys)}
    with Stage("intake", tmp_path / "intake.log", **environment) as stage:
        event = placed("keyed")
        assert stage.binary(event).status_code == 401
        assert stage.binary(event, Authorization=f"Bearer {reader_key}").status_code == 401
        assert stage.binary(event, Authorization=f"Bearer {web_key}x").status_code == 401
        assert stage.binary(event, Authorization=f"Bearer {web_key}").status_code == 202
        forged = replace(event, source="/payments/acme")
        assert stage.binary(forged, **{"X-API-Key": web_key}).status_code == 403
        assert post(stage, order(), **{"X-API-Key": web_key}).status_code == 403
        assert post(stage, order(), **{"X-API-Key": shop_key}).status_code == 202
        refusal = post(stage, b" " * 300_000)
        assert (refusal.status_code, "Bearer" in refusal.headers["www-authenticate"]) == (401, True)


def test_without_kafkas_word_the_answer_is_503_with_a_time_to_come_again(tmp_path: Path) -> None:
    settings = {"KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}", "KAFKA_ACK_SECONDS": "1"}
    with Stage("intake", tmp_path / "intake.log", **settings) as stage:
        answer = post(stage, order())
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert (
            stage.http.post("/", content=paid("x").data, headers=binary_headers(paid("x"))).status_code == 503
        )


def test_a_key_that_has_used_up_its_quota_gets_a_429_before_its_body_is_read_and_others_go_on(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    limited, limited_entry = new_key("limited", ["intake"], quota=Quota(requests_per_second=0.001, burst=2))
    other, other_entry = new_key("other", ["intake"])
    keys = tmp_path / "keys.toml"
    keys.write_text(toml(limited_entry) + toml(other_entry))
    settings = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "LOCAL_RUN": "false", "API_KEYS_FILE": str(keys)}
    with Stage("intake", tmp_path / "log", **settings) as stage:
        answers = [post(stage, order(), f"q-{number}", **{"X-API-Key": limited}) for number in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert answers[2].json()["code"] == "quota_exceeded"
        assert int(answers[2].headers["Retry-After"]) > 0
        assert '"requests";r=0' in answers[2].headers["RateLimit"]
        assert '"requests";r=1' in answers[0].headers["RateLimit"]
        # Only the head is sent: the answer does not wait for the body.
        with socket.create_connection(("127.0.0.1", stage.port), 10) as connection:
            head = (
                f"POST /orders HTTP/1.1\r\nHost: x\r\nX-API-Key: {limited}\r\nContent-Length: 100000\r\n\r\n"
            )
            connection.sendall(head.encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 429")
        answer = post(stage, order(), "q-0", **{"X-API-Key": other})
        assert answer.status_code == 202
        assert "RateLimit" not in answer.headers
