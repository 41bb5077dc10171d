"""CloudEvents on the wire: what is read and written is held against the official SDK, and nothing else crashes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

import pytest
from cloudevents import http as sdk_http
from cloudevents import kafka as sdk_kafka
from cloudevents.conversion import to_binary, to_structured
from hypothesis import given
from hypothesis import strategies as st
from support.events import order
from support.stage import binary_headers

from orderflow.errors import PoisonError
from orderflow.messaging import cloudevent
from orderflow.messaging.cloudevent import JSON, NAMESPACE, CloudEvent

DATA = {"order_id": "o-1", "total": 2900, "name": "Zoë"}
ATTRIBUTES = {
    "type": "dev.orderflow.order.placed.v1",
    "source": "/shop/web",
    "id": "e-1",
    "subject": "o-1",
    "time": "2026-11-23T10:00:00Z",
    "datacontenttype": JSON,
    "partitionkey": "o-1",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI hands them over."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def poison(headers: dict[str, str], body: bytes = b"{}") -> tuple[str, str]:
    with pytest.raises(PoisonError) as caught:
        cloudevent.from_http(raw(headers), body)
    return caught.value.reasons[0].code, caught.value.reasons[0].field


def binary(**changes: str | None) -> dict[str, str]:
    attributes: dict[str, str | None] = {"specversion": "1.0"} | ATTRIBUTES | changes
    attributes.pop("datacontenttype")
    return {f"ce-{name}": value for name, value in attributes.items() if value is not None} | {
        "content-type": JSON
    }


def whole(**changes: Any) -> bytes:
    """A structured event's body."""
    return json.dumps({"specversion": "1.0"} | ATTRIBUTES | changes).encode()


def test_what_the_sdk_writes_in_binary_mode_is_read() -> None:
    headers, body = to_binary(sdk_http.CloudEvent(dict(ATTRIBUTES), DATA))
    event = cloudevent.from_http(raw(headers), body or b"")
    assert event.attributes() | {"datacontenttype": event.content_type} == {"specversion": "1.0"} | ATTRIBUTES
    assert json.loads(event.data) == DATA


def test_what_the_sdk_writes_in_structured_mode_is_read_as_the_same_event() -> None:
    event = sdk_http.CloudEvent(dict(ATTRIBUTES), DATA)
    headers, body = to_binary(event)
    structured_headers, structured_body = to_structured(event)
    in_binary = cloudevent.from_http(raw(headers), body or b"")
    in_structured = cloudevent.from_http(raw(structured_headers), structured_body)
    assert in_structured.attributes() == in_binary.attributes()
    assert json.loads(in_structured.data) == json.loads(in_binary.data)


@given(PRINTABLE, PRINTABLE)
def test_the_sdk_reads_what_is_written_to_http_and_kafka(event_id: str, value: str) -> None:
    event = CloudEvent(
        "t.v1", "/s", event_id, "o-1", "2026-11-23T10:00:00Z", b'{"a":1}', JSON, {"extra": value}
    )
    sdk_event = sdk_http.from_http(binary_headers(event), event.data)
    assert dict(sdk_event.get_attributes()) == event.attributes() | {"datacontenttype": JSON}
    assert sdk_event.get_data() == {"a": 1}
    record = sdk_kafka.KafkaMessage(
        headers={name: str(value).encode() for name, value in event.kafka_headers()},
        key=event.key,
        value=event.data,
    )
    from_kafka = sdk_kafka.from_binary(record)
    assert {**from_kafka.get_attributes(), "partitionkey": None} == {
        **sdk_event.get_attributes(),
        "partitionkey": None,
    }


@pytest.mark.parametrize(
    ("headers", "code", "field"),
    [
        ({"content-type": JSON}, "not_a_cloudevent", "specversion"),
        (binary(specversion="0.3"), "not_a_cloudevent", "specversion"),
        (binary(id=None), "attribute_invalid", "id"),
        (binary(id=""), "attribute_invalid", "id"),
        (binary(id="a b"), "attribute_invalid", "id"),
        (binary(id="a\x00b"), "attribute_invalid", "id"),
        (binary(id="\u00e9"), "attribute_invalid", "id"),
        (binary(id="x" * 257), "attribute_invalid", "id"),
        (binary(source=None), "attribute_invalid", "source"),
        (binary(type=""), "attribute_invalid", "type"),
        (binary(type="dev.knative.kafka.event"), "not_a_cloudevent", "type"),
        (binary(subject="../etc"), "attribute_invalid", "subject"),
        (binary(subject="x" * 65), "attribute_invalid", "subject"),
        (binary(time="yesterday"), "time_invalid", "time"),
        (binary(time="2026-11-23T10:00:00"), "time_invalid", "time"),
        (binary(time="0001-01-01T00:00:00+14:00"), "time_invalid", "time"),
        (binary(time="9999-12-31T23:59:59-12:00"), "time_invalid", "time"),
        (binary(extra="caf\u00e9"), "attribute_invalid", "extra"),
        (binary(**{"Extra-One": "x"}), "attribute_invalid", "extra-one"),
        (
            binary() | {"content-type": "application/cloudevents-batch+json"},
            "not_a_cloudevent",
            "content-type",
        ),
    ],
)
def test_a_header_that_cannot_be_carried_is_named(headers: dict[str, str], code: str, field: str) -> None:
    assert poison(headers) == (code, field)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "json_invalid"),
        (b"{", "json_invalid"),
        (b"\xff\xfe", "json_invalid"),
        (b"[" * 100_000, "json_invalid"),
        (b"[]", "not_a_cloudevent"),
        (b'"text"', "not_a_cloudevent"),
        (json.dumps(ATTRIBUTES).encode(), "not_a_cloudevent"),
        (json.dumps({"specversion": "1.0"} | ATTRIBUTES | {"id": {"a": 1}}).encode(), "attribute_invalid"),
        (json.dumps({"specversion": "1.0"} | ATTRIBUTES | {"data_base64": "#"}).encode(), "data_invalid"),
        (json.dumps({"specversion": "1.0"} | ATTRIBUTES | {"data_base64": 7}).encode(), "data_invalid"),
        (whole(data={}, data_base64="e30="), "data_invalid"),
        (whole(datacontenttype="a\nb"), "attribute_invalid"),
        (whole(datacontenttype=7), "attribute_invalid"),
        (whole(datacontenttype="application/cloudevents+json"), "attribute_invalid"),
        (whole(extra=1.5), "attribute_invalid"),
        (whole(extra="\ud800"), "attribute_invalid"),
        (whole(specversion=1), "not_a_cloudevent"),
        (whole(data="MARK").replace(b'"MARK"', b"[" * 5000 + b"]" * 5000), "json_invalid"),
        (whole(data="MARK").replace(b'"MARK"', b"9" * 5000), "json_invalid"),
    ],
)
def test_a_structured_body_that_is_no_event_is_poison(body: bytes, code: str) -> None:
    assert poison({"content-type": "application/cloudevents+json; charset=utf-8"}, body)[0] == code


@given(
    st.dictionaries(st.text(max_size=10), st.text(st.characters(max_codepoint=255), max_size=20), max_size=6),
    st.binary(),
)
def test_nothing_but_poison_comes_out_of_garbage(names: dict[str, str], body: bytes) -> None:
    headers = [(f"ce-{name}".encode(), value.encode("latin-1")) for name, value in names.items()]
    for content_type in (b"application/json", b"application/cloudevents+json", b"", b"\xff"):
        try:
            cloudevent.from_http([*headers, (b"content-type", content_type)], body)
        except PoisonError as error:
            assert error.reasons  # noqa: PT017 - either this or no error at all


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_but_poison_comes_out_of_any_json(document: Any) -> None:
    body = json.dumps({"specversion": "1.0"} | ATTRIBUTES | {"data": document}).encode()
    assert cloudevent.from_http([(b"content-type", b"application/cloudevents+json")], body).id == "e-1"
    try:
        cloudevent.from_http(
            [(b"content-type", b"application/cloudevents+json")], json.dumps(document).encode()
        )
    except PoisonError as error:
        assert error.reasons  # noqa: PT017 - either this or no error at all


def test_percent_signs_are_read_as_the_sender_meant_them() -> None:
    headers = raw(binary(id="a%41"))
    assert cloudevent.from_http(headers, b"{}").id == "a%41"
    assert cloudevent.from_http(headers, b"{}", percent_encoded=True).id == "aA"


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_a_derived_id_is_the_standard_librarys_uuid5(parts: list[str]) -> None:
    assert cloudevent.derived_id(*parts) == str(uuid5(NAMESPACE, "\x1f".join(parts)))


def test_an_attribute_that_comes_twice_is_poison_and_not_a_choice() -> None:
    headers = raw(binary())
    with pytest.raises(PoisonError) as caught:
        cloudevent.from_http([*headers, (b"ce-id", b"other")], b"{}")
    assert caught.value.reasons[0].field == "id"


def test_what_kafkasource_adds_is_taken_and_an_attribute_without_a_value_is_none() -> None:
    added = binary(knativekafkapartition="3", knativekafkaoffset="42")
    assert cloudevent.from_http(raw(added), b"{}").extensions["knativekafkapartition"] == "3"
    in_body = [(b"content-type", b"Application/CloudEvents+JSON; charset=utf-8")]
    event = cloudevent.from_http(in_body, whole(dataschema=None, sequence=7, urgent=True, data={"a": 1}))
    assert "dataschema" not in event.extensions
    assert (event.extensions["sequence"], event.extensions["urgent"]) == ("7", "true")
    assert event.data == b'{"a":1}'


def numbered(count: int, length: int) -> dict[str, str | None]:
    """Extensions with names of three characters."""
    return {f"x{number:02}": "v" * length for number in range(count)}


def test_32_extensions_and_8_kib_of_attributes_are_read_beside_those_that_are_added_on_the_way() -> None:
    added: dict[str, str | None] = {
        "replay": "r" * 64,
        "tracestate": "t=" + "x" * 500,
        "knativekafkapartition": "3",
        "knativekafkaoffset": "42",
        "knativeerrordest": "http://validate.orderflow.svc.cluster.local",
        "knativeerrorcode": "500",
        "knativeerrordata": "x" * 1000,
    }
    event = cloudevent.from_http(raw(binary(**numbered(32, 200), **added)), b"{}")
    assert len(event.extensions) == 32 + 2 + len(added)


@pytest.mark.parametrize(
    ("extensions", "field"), [(numbered(33, 0), "x32"), (numbered(9, 1000), "x08"), (numbered(70, 1), "x32")]
)
def test_more_than_a_gateway_carries_is_poison_and_the_first_attribute_beyond_it_is_named(
    extensions: dict[str, str | None], field: str
) -> None:
    assert poison(binary(**extensions)) == ("attribute_invalid", field)
    body = whole(**extensions)
    with pytest.raises(PoisonError) as caught:
        cloudevent.from_http([(b"content-type", b"application/cloudevents+json")], body)
    assert caught.value.reasons[0].field == field


def test_the_name_of_a_bad_attribute_is_shown_printable_and_short() -> None:
    for name in ("a\x00\ud800", "n" * 500):
        with pytest.raises(PoisonError) as caught:
            cloudevent.from_http([(b"content-type", b"application/cloudevents+json")], whole(**{name: "x"}))
        assert caught.value.reasons[0].field.isprintable()
        assert len(caught.value.reasons[0].field) < 100


@given(st.datetimes(timezones=st.timezones()))
def test_any_time_is_read_as_the_same_moment_or_is_poison(time: datetime) -> None:
    try:
        parsed = cloudevent.moment(time.isoformat())
    except PoisonError:
        assert not 1970 <= time.year <= 9998
    else:
        assert parsed == datetime.fromisoformat(time.isoformat())
        assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "time", ["2026-11-23T10:00:00Z", "2026-11-23t10:00:00.123456789+00:00", "2026-11-23T23:00:00+13:00"]
)
def test_the_times_that_other_languages_write_are_read(time: str) -> None:
    assert cloudevent.moment(time).replace(microsecond=0) == datetime(2026, 11, 23, 10, tzinfo=UTC)


def test_the_key_is_the_order_id() -> None:
    assert cloudevent.from_http(raw(binary()), json.dumps(order()).encode()).key == b"o-1"
