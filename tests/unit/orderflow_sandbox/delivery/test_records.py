"""Unusual records, and the requests that KafkaSource makes of them.

The expected values are those of eventing-kafka-broker 0.50: of its data plane itself, or of the CloudEvents SDK for
Java 4.0.1 on which it is built.
"""

import json
from typing import Any

import pytest

from orderflow_sandbox.delivery.events import head_of
from orderflow_sandbox.delivery.records import Headers, Origin, Record, events_of_poll

CE: Headers = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e-1"),
    ("ce_source", b"/s"),
    ("ce_type", b"t"),
    ("content-type", b"application/json"),
]
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]
SAME: dict[str, str | None] = {
    "ce-specversion": "1.0",
    "ce-id": "e-1",
    "ce-source": "/s",
    "ce-type": "t",
    "ce-knativekafkapartition": "3",
    "ce-knativekafkaoffset": "42",
    "content-type": "application/json",
    "content-length": "2",
}
"""The headers of the request that a record with the headers CE and two bytes of data becomes."""


def changed(**values: bytes) -> Headers:
    """CE with other values of attributes."""
    new = {f"ce_{name}": value for name, value in values.items()}
    return [(name, new.pop(name, value)) for name, value in CE] + list(new.items())


def without(*names: str) -> Headers:
    return [(name, value) for name, value in CE if name not in names]


def typed(content_type: bytes) -> Headers:
    return [*without("content-type"), ("content-type", content_type)]


def document(**changes: Any) -> bytes:
    """The value of a structured record. A change to ... removes the attribute."""
    whole = {"specversion": "1.0", "id": "e-1", "source": "/s", "type": "t", **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def with_text(text: str) -> bytes:
    """The value of a structured record, with more members as JSON text."""
    return b'{"specversion":"1.0","id":"e-1","source":"/s","type":"t",' + text.encode() + b"}"


def request_of(
    headers: Headers, value: bytes | None = b"{}", key: bytes | None = b"o-1"
) -> tuple[dict[str, str], bytes | None]:
    """The headers and the body of the request; fails where there is none."""
    record = Record("orders", 3, 42, 1_780_000_000_123, key, value, headers)
    (event,) = events_of_poll([record], Origin("orderflow", "track", {}))
    assert event is not None, "the record is dropped"
    head = head_of(event)
    assert head is not None, "the event cannot be sent"
    lines = head.decode("latin-1").removesuffix("\r\n").split("\r\n")
    return dict(line.split(": ", 1) for line in lines), event.data


def differences(headers: Headers, value: bytes | None = b"{}") -> dict[str, str | None]:
    """What differs from SAME; None is for a header that is not sent."""
    sent, _ = request_of(headers, value)
    names = SAME.keys() | sent.keys()
    return {name: sent.get(name) for name in names if sent.get(name) != SAME.get(name)}


WRAPPED: list[tuple[str, Headers, bytes]] = [
    ("ce_SPECVERSION", [*without("ce_specversion"), ("ce_SPECVERSION", b"1.0")], b"{}"),
    ("CE_ names", [(name.upper(), value) for name, value in CE], b"{}"),
    ("ce_specversion twice, bad last", [*CE, ("ce_specversion", b"9")], b"{}"),
    ("ce_time twice, bad first", [*CE, ("ce_time", b"x"), ("ce_time", b"2026-11-28T10:00:00Z")], b"{}"),
    ("ce_source twice, bad first", [("ce_source", b"::"), *CE], b"{}"),
    ("ce_time empty", changed(time=b""), b"{}"),
    ("time with a space", changed(time=b"2026-11-28 10:00:00Z"), b"{}"),
    ("time offset +18:30", changed(time=b"2026-11-28T10:00:00+18:30"), b"{}"),
    ("source a[b", changed(source=b"a[b"), b"{}"),
    ("source ::", changed(source=b"::"), b"{}"),
    ("source x:", changed(source=b"x:"), b"{}"),
    ("source http://", changed(source=b"http://"), b"{}"),
    ("dataschema a[b", changed(dataschema=b"a[b"), b"{}"),
    ("binary, application/cloudevents", typed(b"application/cloudevents"), b"{}"),
    ("binary, application/cloudevents+xml", typed(b"application/cloudevents+xml"), b"{}"),
    ("binary, application/cloudevents-batch+json", typed(b"application/cloudevents-batch+json"), b"{}"),
    ("binary, application/cloudevents+JSON", typed(b"application/cloudevents+JSON"), b"{}"),
    ("0.3, schemaurl", changed(specversion=b"0.3", schemaurl=b"a b"), b"{}"),
    ("structured, leading space", [("content-type", b" application/cloudevents+json")], document()),
    ("structured, space before ;", [("content-type", b"application/cloudevents+json ;a=b")], document()),
    ("structured, specversion a number", STRUCTURED, document(specversion=1.0)),
    ("structured, extension 1.5", STRUCTURED, document(x=1.5)),
    ("structured, extension 2.0", STRUCTURED, document(x=2.0)),
    ("structured, extension 2^31", STRUCTURED, document(x=2**31)),
    ("structured, id a number", STRUCTURED, document(id=7)),
    ("structured, subject true", STRUCTURED, document(subject=True)),
    ("structured, id null", STRUCTURED, document(id=None)),
    ("structured, type missing", STRUCTURED, document(type=...)),
    ("structured, vnd+json", STRUCTURED, document(datacontenttype="application/vnd.x+json", data={})),
    ("structured, x-y+json", STRUCTURED, document(datacontenttype="application/x-y+json", data={})),
    ("structured, a1+json", STRUCTURED, document(datacontenttype="application/a1+json", data={})),
    ("structured, a.b+json", STRUCTURED, document(datacontenttype="application/a.b+json", data={})),
    ("structured, Application/JSON", STRUCTURED, document(datacontenttype="Application/JSON", data={})),
    ("structured, upper-case name", STRUCTURED, document(Xy="1")),
    ("structured, data and data_base64", STRUCTURED, document(data=1, data_base64="AAE=")),
    ("structured, data_base64 null", STRUCTURED, document(data_base64=None)),
    ("structured, base64 without padding", STRUCTURED, document(data_base64="AAE")),
    ("structured, base64, break in a group", STRUCTURED, document(data_base64="AAE\nA")),
    ("structured, NaN", STRUCTURED, with_text('"data":NaN')),
    ("structured, number of 1001 digits", STRUCTURED, with_text('"data":' + "9" * 1001)),
    ("structured, Latin-1", STRUCTURED, with_text('"x":"é"').decode().encode("latin-1")),
    ("structured, array", STRUCTURED, b"[]"),
    ("structured, empty", STRUCTURED, b""),
]


@pytest.mark.parametrize(("headers", "value"), [row[1:] for row in WRAPPED], ids=[row[0] for row in WRAPPED])
def test_a_record_that_the_sdk_takes_for_no_cloudevent_is_wrapped(headers: Headers, value: bytes) -> None:
    sent, body = request_of(headers, value)
    assert sent["ce-type"] == "dev.knative.kafka.event"
    assert sent["ce-id"] == "partition:3/offset:42"
    assert body == value


BINARY: list[tuple[str, Headers, dict[str, str | None]]] = [
    ("id empty", changed(id=b""), {"ce-id": ""}),
    ("source empty", changed(source=b""), {"ce-source": ""}),
    ("type empty", changed(type=b""), {"ce-type": ""}),
    ("ce_ID", [*without("ce_id"), ("ce_ID", b"e-1")], {}),
    ("ce_ alone", [*CE, ("ce_", b"1")], {}),
    ("ce_SPECVERSION as well", [*CE, ("ce_SPECVERSION", b"9")], {}),
    ("ce_specversion twice, bad first", [("ce_specversion", b"9"), *CE], {}),
    ("id twice", [*CE, ("ce_id", b"e-2")], {"ce-id": "e-2"}),
    ("time without seconds", changed(time=b"2026-11-28T10:00Z"), {"ce-time": "2026-11-28T10:00:00Z"}),
    ("time +02", changed(time=b"2026-11-28T10:00:00+02"), {"ce-time": "2026-11-28T10:00:00+02:00"}),
    ("time .Z", changed(time=b"2026-11-28T10:00:00.Z"), {"ce-time": "2026-11-28T10:00:00Z"}),
    (
        "time +02:00:30",
        changed(time=b"2026-11-28T10:00:00+02:00:30"),
        {"ce-time": "2026-11-28T10:00:00+02:00:30"},
    ),
    ("time in lower case", changed(time=b"2026-11-28t10:00:00z"), {"ce-time": "2026-11-28T10:00:00Z"}),
    ("year 0000", changed(time=b"0000-01-01T00:00:00Z"), {"ce-time": "0000-01-01T00:00:00Z"}),
    ("year -0001", changed(time=b"-0001-01-01T00:00:00Z"), {"ce-time": "-0001-01-01T00:00:00Z"}),
    ("year +12026", changed(time=b"+12026-01-01T00:00:00Z"), {"ce-time": "+12026-01-01T00:00:00Z"}),
    ("beyond Latin-1", changed(x="€漢".encode()), {"ce-x": "??"}),
    ("beyond 16 bits", changed(x="\N{PARTY POPPER}".encode()), {"ce-x": "??"}),
    ("invalid UTF-8", changed(x=b"a\xff\xc3"), {"ce-x": "a??"}),
    ("a surrogate in UTF-8", changed(x=b"\xed\xa0\x80"), {"ce-x": "?"}),
    ("content-type empty", typed(b""), {"content-type": ""}),
    (
        "leading space, no structured mode",
        typed(b" application/cloudevents+json"),
        {"content-type": " application/cloudevents+json"},
    ),
    ("content-type twice", [*CE, ("content-type", b"text/a")], {"content-type": "text/a"}),
    ("ce_datacontenttype, then content-type", [("ce_datacontenttype", b"text/a"), *CE], {}),
    (
        "content-type, then ce_datacontenttype",
        [*CE, ("ce_datacontenttype", b"text/a")],
        {"content-type": "text/a"},
    ),
    (
        "ce_datacontenttype alone",
        [*without("content-type"), ("ce_datacontenttype", b"text/a")],
        {"content-type": "text/a"},
    ),
    (
        "0.3, datacontentencoding",
        changed(specversion=b"0.3", datacontentencoding=b"base64"),
        {"ce-specversion": "0.3"},
    ),
    (
        "1.0, datacontentencoding",
        changed(datacontentencoding=b"base64"),
        {"ce-datacontentencoding": "base64"},
    ),
    ("1.0, schemaurl", changed(schemaurl=b"a b"), {"ce-schemaurl": "a b"}),
]


@pytest.mark.parametrize(("headers", "expected"), [row[1:] for row in BINARY], ids=[row[0] for row in BINARY])
def test_an_unusual_cloudevent_in_binary_mode_is_delivered(
    headers: Headers, expected: dict[str, str | None]
) -> None:
    assert differences(headers) == expected


def test_a_line_break_before_a_space_continues_the_header() -> None:
    (event,) = events_of_poll(
        [Record("orders", 3, 42, 0, None, b"", changed(x=b"a\r\n b"))], Origin("n", "s", {})
    )
    assert event is not None
    assert b"ce-x: a\r\n b\r\n" in (head_of(event) or b"")


EXTENSIONS: list[tuple[str, bytes, dict[str, str]]] = [
    ("id empty", document(id=""), {"ce-id": ""}),
    ("subject null", document(subject=None), {}),
    ("time null", document(time=None), {}),
    ("dataschema null", document(dataschema=None), {}),
    ("datacontenttype null", document(datacontenttype=None), {}),
    ("text behind", document() + b" and more", {}),
    ("invalid UTF-8 behind", document() + b" \xff", {}),
    ("two documents", document() + document(id="other"), {}),
    ("byte order mark", b"\xef\xbb\xbf" + document(), {}),
    ("UTF-16", document().decode().encode("utf-16"), {}),
    ("id twice", with_text('"id":"other"'), {"ce-id": "other"}),
    ("extension an integer", document(x=2**31 - 1), {"ce-x": "2147483647"}),
    ("extension true", document(x=True), {"ce-x": "true"}),
    ("extension null", document(x=None), {"ce-x": "null"}),
    ("extension an object", document(x={"a": 1}), {"ce-x": '{"a":1}'}),
    ("extension an array", document(x=[1]), {"ce-x": "[1]"}),
    ("extension beyond Latin-1", document(x="€"), {"ce-x": "?"}),
    ("extension half of a pair", document(x="\ud800"), {"ce-x": "?"}),
    ("ce_ header as well", document(), {}),
]


@pytest.mark.parametrize(
    ("value", "expected"), [row[1:] for row in EXTENSIONS], ids=[row[0] for row in EXTENSIONS]
)
def test_an_unusual_cloudevent_in_structured_mode_is_delivered(
    value: bytes, expected: dict[str, str]
) -> None:
    sent, body = request_of([*STRUCTURED, ("ce_id", b"not this")], value)
    without_data = {name: SAME[name] for name in SAME if not name.startswith("content-")}
    assert sent == without_data | expected
    assert body is None


@pytest.mark.parametrize(
    ("value", "content_type", "body"),
    [
        (document(data={"a": 1}), "application/json", b'{"a":1}'),
        (document(data=None), "application/json", b"null"),
        (document(data="hi"), "application/json", b'"hi"'),
        (document(data="hi", datacontenttype="text/plain"), "text/plain", b"hi"),
        (document(data="", datacontenttype="text/plain"), "text/plain", b""),
        (document(data="{}", datacontenttype="application/vnd.x+json"), "application/vnd.x+json", b"{}"),
        (document(data={}, datacontenttype="application/xyz+json"), "application/xyz+json", b"{}"),
        (document(data={}, datacontenttype="text/json;a"), "text/json;a", b"{}"),
        (document(data_base64="AAE="), None, b"\x00\x01"),
        (document(data_base64=""), None, b""),
        (document(data_base64="AAEA\r\nAAE="), None, b"\x00\x01\x00\x00\x01"),
        (
            document(data_base64="AAE=", datacontenttype="application/json"),
            "application/json",
            b"\x00\x01",
        ),
        (document(data="\ud800"), "application/json", b'"?"'),
        (
            document(specversion="0.3", data="AAE=", datacontentencoding="base64"),
            "application/json",
            b"\x00\x01",
        ),
    ],
)
def test_the_data_of_a_structured_event(value: bytes, content_type: str | None, body: bytes) -> None:
    sent, data = request_of(STRUCTURED, value)
    assert data == body
    assert sent.get("content-type") == content_type
    assert sent["content-length"] == str(len(body))
    assert "ce-datacontentencoding" not in sent


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("123456789.12345679", "1.2345678912345679E8"),
        ("1e-08", "1.0E-8"),
        ("1e400", '"Infinity"'),
        ("-1e400", '"-Infinity"'),
        ("1.10", "1.1"),
        ("1e2", "100.0"),
        ("0.001", "0.001"),
        ("0.00012", "1.2E-4"),
        ("9999999.5", "9999999.5"),
        ("10000000.0", "1.0E7"),
        ("-1.5e300", "-1.5E300"),
        ("5e-324", "4.9E-324"),
        ("-0.0", "-0.0"),
        ("-0", "0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_numbers_are_written_as_java_writes_them(number: str, written: str) -> None:
    _, data = request_of(STRUCTURED, with_text(f'"data":[{number}]'))
    assert data == f"[{written}]".encode()


def test_text_is_escaped_as_jackson_escapes_it() -> None:
    _, data = request_of(STRUCTURED, with_text(r'"data":{"\u001f":"\u007f\b\/\u2028\u00e9<\"\\"}'))
    assert data == '{"\\u001F":"\x7f\\b/\u2028\u00e9<\\"\\\\"}'.encode()


@pytest.mark.parametrize("value", [None, b""])
def test_a_tombstone_with_a_content_type_keeps_it(value: bytes | None) -> None:
    """Only a record without a value is a tombstone; an empty value is a body of no bytes."""
    sent, _ = request_of([("content-type", b"Text/Plain")], value)
    assert sent["ce-type"] == "dev.knative.kafka.event"
    assert sent["content-type"] == "text/plain"
    assert sent.get("content-length") == (None if value is None else "0")


NULLS: list[tuple[str, Headers, bytes]] = [
    ("binary, foreign header", [*CE, ("x-foo", None)], b"{}"),
    ("binary, ce_", [*CE, ("ce_", None)], b"{}"),
    ("binary, attribute", [*CE, ("ce_subject", None)], b"{}"),
    ("binary, content-type", [*without("content-type"), ("content-type", None)], b"{}"),
    ("structured, foreign header", [*STRUCTURED, ("x-foo", None)], document()),
    ("structured, attribute", [*STRUCTURED, ("ce_id", None)], document()),
    ("no CloudEvent", [("x-foo", None)], b"{}"),
]


@pytest.mark.parametrize(("headers", "value"), [row[1:] for row in NULLS], ids=[row[0] for row in NULLS])
def test_a_header_without_a_value_drops_the_record(headers: Headers, value: bytes) -> None:
    record = Record("orders", 3, 42, 0, b"o-1", value, headers)
    assert events_of_poll([record], Origin("orderflow", "track", {})) == [None]
