"""Records as KafkaSource sends them. The name of each test is a rule."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from orderflow_sandbox.delivery.events import Event, IllegalExtensionError, dead_letter, head_of
from orderflow_sandbox.delivery.records import Origin, Record, events_of_poll

ORIGIN = Origin("orderflow", "track", {})
CE = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e-1"),
    ("ce_source", b"/storefront"),
    ("ce_type", b"dev.orderflow.order.placed.v1"),
    ("ce_subject", b"o-1"),
    ("content-type", b"application/json"),
]


def record(**changes: Any) -> Record:
    base = Record("orders", 3, 42, 1_780_000_000_123, b"o-1", b'{"a":1}', list(CE))
    return replace(base, **changes)


def one(input_record: Record, origin: Origin = ORIGIN) -> Event:
    (event,) = events_of_poll([input_record], origin)
    assert event is not None
    return event


def changed(**headers: bytes | None) -> list[tuple[str, bytes | None]]:
    others = [(name, value) for name, value in CE if name.replace("-", "_") not in headers]
    return [*others, *headers.items()]


def lines(event: Event) -> set[bytes]:
    head = head_of(event)
    assert head is not None
    return set(head.removesuffix(b"\r\n").split(b"\r\n"))


def test_a_binary_cloudevent_goes_out_in_binary_mode_with_partition_and_offset() -> None:
    event = one(record())
    assert lines(event) == {
        b"ce-specversion: 1.0",
        b"ce-id: e-1",
        b"ce-source: /storefront",
        b"ce-type: dev.orderflow.order.placed.v1",
        b"ce-subject: o-1",
        b"ce-knativekafkapartition: 3",
        b"ce-knativekafkaoffset: 42",
        b"content-type: application/json",
        b"content-length: 7",
    }
    assert event.data == b'{"a":1}'


def test_the_key_of_a_cloudevent_is_not_added_but_its_partitionkey_survives() -> None:
    assert "partitionkey" not in one(record()).attributes
    event = one(record(headers=[*CE, ("ce_partitionkey", b"p-9")]))
    assert event.attributes["partitionkey"] == "p-9"


def test_other_kafka_headers_of_a_cloudevent_are_left_out() -> None:
    assert "x-trace" not in str(one(record(headers=[*CE, ("x-trace", b"1")])).attributes)


def test_a_record_without_content_type_is_forwarded_without_one() -> None:
    event = one(record(headers=[header for header in CE if header[0] != "content-type"]))
    assert not any(line.startswith(b"content-type") for line in lines(event))


@pytest.mark.parametrize("value", [None, b""])
def test_a_cloudevent_without_data_keeps_its_content_type_and_has_no_content_length(
    value: bytes | None,
) -> None:
    """Measured against eventing-kafka-broker 0.50."""
    event = one(record(value=value))
    assert event.data is None
    assert b"content-type: application/json" in lines(event)
    assert not any(line.startswith(b"content-length") for line in lines(event))


def test_a_structured_cloudevent_goes_out_in_binary_mode() -> None:
    body = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/s",
        "type": "t",
        "sequence": 7,
        "flag": True,
        "datacontenttype": "application/json",
        "data": {"name": "é", "n": 1},
    }
    headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    event = one(record(headers=headers, value=json.dumps(body).encode()))
    assert event.data == '{"name":"é","n":1}'.encode()
    assert {b"ce-id: e-1", b"ce-sequence: 7", b"ce-flag: true"} <= lines(event)
    assert b"content-type: application/json" in lines(event)


@pytest.mark.parametrize(
    ("part", "data"),
    [
        ({"data_base64": base64.b64encode(b"\x00\x01").decode()}, b"\x00\x01"),
        ({"datacontenttype": "text/plain", "data": "hi"}, b"hi"),
        ({"data": "hi"}, b'"hi"'),
        ({"data": None}, b"null"),
        ({}, None),
    ],
)
def test_structured_data_by_content_type(part: dict[str, Any], data: bytes | None) -> None:
    body = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **part}
    headers = [("content-type", b"application/cloudevents+json")]
    assert one(record(headers=headers, value=json.dumps(body).encode())).data == data


MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("no specversion", {"headers": changed(ce_specversion=b"")}),
    ("unknown specversion", {"headers": changed(ce_specversion=b"2.0")}),
    ("no id", {"headers": [header for header in CE if header[0] != "ce_id"]}),
    ("no source", {"headers": [header for header in CE if header[0] != "ce_source"]}),
    ("no type", {"headers": [header for header in CE if header[0] != "ce_type"]}),
    ("source is no URI", {"headers": changed(ce_source=b"not a uri")}),
    ("source with a bad escape", {"headers": changed(ce_source=b"/%zz")}),
    ("bad time", {"headers": [*CE, ("ce_time", b"yesterday")]}),
    ("impossible time", {"headers": [*CE, ("ce_time", b"2026-02-30T00:00:00Z")]}),
    ("bad extension name", {"headers": [*CE, ("ce_my-ext", b"1")]}),
    ("plain record", {"headers": []}),
    ("structured, not JSON", {"headers": [("content-type", b"application/cloudevents+json")]}),
]


@pytest.mark.parametrize("change", [case[1] for case in MALFORMED], ids=[c[0] for c in MALFORMED])
def test_anything_else_arrives_as_a_kafka_event(change: dict[str, Any]) -> None:
    event = one(record(**{"value": b"{", **change}))
    assert event.attributes["type"] == "dev.knative.kafka.event"
    assert event.data == b"{"


def test_a_wrapped_record_carries_where_it_was_its_key_and_its_headers() -> None:
    headers = [("X-Shop_Id", b"7"), ("Content-Type", b"Text/Plain"), ("ce_id", b"e-1")]
    event = one(record(headers=headers))
    assert event.attributes == {
        "specversion": "1.0",
        "id": "partition:3/offset:42",
        "source": "/apis/v1/namespaces/orderflow/kafkasources/track#orders",
        "type": "dev.knative.kafka.event",
        "subject": "partition:3#42",
        "time": "2026-05-28T20:26:40.123Z",
        "key": "o-1",
        "partitionkey": "o-1",
        "kafkaheaderxshopid": "7",
        "kafkaheaderceid": "e-1",
        "datacontenttype": "text/plain",
        "knativekafkapartition": "3",
        "knativekafkaoffset": "42",
    }


def test_an_empty_key_is_no_key() -> None:
    assert "key" not in one(record(headers=[], key=b"")).attributes


@pytest.mark.parametrize(
    ("time", "sent"),
    [
        (b"2026-11-22T10:00:00.120Z", "2026-11-22T10:00:00.12Z"),
        (b"2026-11-22T10:00:00.000+00:00", "2026-11-22T10:00:00Z"),
        (b"2026-11-22T10:00:00+02:00", "2026-11-22T10:00:00+02:00"),
    ],
)
def test_a_time_is_written_again_as_java_writes_it(time: bytes, sent: str) -> None:
    assert one(record(headers=[*CE, ("ce_time", time)])).attributes["time"] == sent


def test_overrides_win_over_what_the_event_carries() -> None:
    origin = Origin("orderflow", "track", {"shop": "new"})
    event = one(record(headers=[*CE, ("ce_shop", b"old")]), origin)
    assert event.attributes["shop"] == "new"


@pytest.mark.parametrize(
    ("text", "sent"), [("é", b"\xe9"), ("€", b"?"), ("\N{PARTY POPPER}", b"??"), ("a b", b"a b")]
)
def test_attribute_values_go_out_as_latin_1(text: str, sent: bytes) -> None:
    event = one(record(headers=[*CE, ("ce_shop", text.encode())]))
    assert b"ce-shop: " + sent in lines(event)


def test_bytes_that_are_not_utf_8_become_question_marks() -> None:
    event = one(record(headers=[*CE, ("ce_shop", b"\xff")]))
    assert b"ce-shop: ?" in lines(event)


def test_a_nul_in_the_key_of_a_record_that_is_wrapped_cannot_be_sent() -> None:
    event = one(record(key=b"o\x001", headers=[]))
    assert head_of(event) is None


def test_a_nul_in_the_key_of_a_cloudevent_does_not_matter() -> None:
    """Measured against eventing-kafka-broker 0.50: the key of a valid CloudEvent is not sent."""
    event = one(record(key=b"o\x001"))
    assert b"ce-id: e-1" in lines(event)


@pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\x00", b"\x7f", b"\x0b", b"a\rb", b"a\n"])
def test_a_value_that_http_forbids_cannot_be_sent(value: bytes) -> None:
    assert head_of(one(record(headers=[*CE, ("ce_shop", value)]))) is None


def test_a_null_header_on_no_cloudevent_takes_the_others_of_its_poll_with_it() -> None:
    plain = record(headers=[], offset=1)
    poison = record(headers=[("x", None)], offset=2)
    later = record(headers=[("y", b"1")], offset=3)
    event = record(offset=4)
    events = events_of_poll([plain, poison, later, event], ORIGIN)
    assert [each is not None for each in events] == [False, False, False, True]


@pytest.mark.parametrize("name", ["ce_subject", "content-type"])
def test_a_null_valued_ce_header_or_content_type_is_such_poison(name: str) -> None:
    headers = [header for header in CE if header[0] != name]
    poison = record(headers=[*headers, (name, None)])
    assert events_of_poll([poison, record(headers=[])], ORIGIN) == [None, None]


def test_a_null_header_of_another_name_drops_a_cloudevent_and_no_other() -> None:
    """Measured against eventing-kafka-broker 0.50: its tracing fails at the header, and the offset is committed."""
    poison = record(headers=[*CE, ("x", None)])
    first, second, plain = events_of_poll([poison, record(), record(headers=[])], ORIGIN)
    assert first is None
    assert second is not None
    assert plain is not None


def dead_letter_attributes(**answer: Any) -> dict[str, str]:
    response: dict[str, Any] = {"status": 400, "headers": [], "body": b"", **answer}
    return dead_letter(one(record()), "http://track", **response).attributes


def test_a_dead_letter_is_the_same_event_and_says_why() -> None:
    attributes = dead_letter_attributes(body=b"x" * 2000)
    assert attributes["id"] == "e-1"
    assert attributes["knativeerrordest"] == "http://track"
    assert attributes["knativeerrorcode"] == "400"
    assert base64.b64decode(attributes["knativeerrordata"]) == b"x" * 1024


def test_without_an_answer_there_is_no_code() -> None:
    attributes = dead_letter_attributes(status=None)
    assert attributes["knativeerrordest"] == "http://track"
    assert "knativeerrorcode" not in attributes
    assert "knativeerrordata" not in attributes


def test_kne_headers_of_the_answer_become_extensions() -> None:
    assert dead_letter_attributes(headers=[("KNE-Reason", "late"), ("Location", "/x")])["reason"] == "late"


@pytest.mark.parametrize("name", ["Kne-My-Reason", "kne-ä", "kne-"])
def test_an_illegal_kne_header_is_an_error_of_its_own(name: str) -> None:
    with pytest.raises(IllegalExtensionError):
        dead_letter_attributes(headers=[(name, "x")])
