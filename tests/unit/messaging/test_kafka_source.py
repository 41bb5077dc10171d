"""Times and URIs that KafkaSource takes and refuses: the values of the CloudEvents SDK for Java 4.0.1 on Java 17."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orderflow.errors import PoisonError
from orderflow.messaging import cloudevent
from orderflow.messaging.cloudevent import JSON, CloudEvent
from orderflow.messaging.kafka_source import check, is_uri_reference, normalised_time
from orderflow_sandbox.delivery.events import head_of
from orderflow_sandbox.delivery.records import Origin, Record, events_of_poll

DAY = "2026-11-28T10:00:00"


@pytest.mark.parametrize(
    ("time", "sent"),
    [
        (f"{DAY}Z", f"{DAY}Z"),
        ("2026-11-28T10:00Z", f"{DAY}Z"),
        (f"{DAY}.Z", f"{DAY}Z"),
        (f"{DAY}.120Z", f"{DAY}.12Z"),
        (f"{DAY}.123456789Z", f"{DAY}.123456789Z"),
        ("2026-11-28t10:00:00z", f"{DAY}Z"),
        (f"{DAY}+02", f"{DAY}+02:00"),
        (f"{DAY}+02:00:30", f"{DAY}+02:00:30"),
        (f"{DAY}-00:00:30", f"{DAY}-00:00:30"),
        (f"{DAY}+18:00", f"{DAY}+18:00"),
        (f"{DAY}-18:00", f"{DAY}-18:00"),
        (f"{DAY}-00:00", f"{DAY}Z"),
        ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z"),
        ("-0001-01-01T00:00:00Z", "-0001-01-01T00:00:00Z"),
        ("+12026-01-01T00:00:00Z", "+12026-01-01T00:00:00Z"),
        ("+0012026-01-01T00:00:00Z", "+12026-01-01T00:00:00Z"),
        ("+000000000-12-31T23:59:59Z", "0000-12-31T23:59:59Z"),
        ("+999999999-12-31T23:59:59Z", "+999999999-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_taken_and_written_as_java_writes_it(time: str, sent: str) -> None:
    assert normalised_time(time) == sent
    assert normalised_time(sent) == sent


@pytest.mark.parametrize(
    "time",
    [
        "",
        DAY,
        "2026-11-28",
        "2026-11-28T10Z",
        "2026-11-28 10:00:00Z",
        f" {DAY}Z",
        f"{DAY}Z ",
        f"{DAY},5Z",
        f"{DAY}.1234567890Z",
        "2026-11-28T10:00.5Z",
        f"{DAY}+2",
        f"{DAY}+0200",
        f"{DAY}+02:0",
        f"{DAY}+02:00:3",
        f"{DAY}+18:00:01",
        f"{DAY}+18:30",
        f"{DAY}+17:60",
        f"{DAY}GMT",
        "20261128T100000Z",
        "2026-W01-1T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-28T24:00:00Z",
        "2026-11-28T23:59:60Z",
        "-0000-01-01T00:00:00Z",
        "+2026-01-01T00:00:00Z",
        "12026-01-01T00:00:00Z",
        "+1000000000-12-31T23:59:59Z",
        "\uff12026-11-28T10:00:00Z",
    ],
)
def test_another_text_is_no_time(time: str) -> None:
    assert normalised_time(time) is None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/storefront/web",
        "#",
        "?",
        "a#b",
        "?a?b",
        "a?b[c]",
        "a#[",
        "a/b:c",
        "a:b",
        "x+1.-:y",
        "urn:a:b",
        "urn:a[b]",
        "x:[",
        "a:?b",
        "mailto:a@b",
        "///",
        "//?q",
        "http:///x",
        "http:/",
        "http://h:port/",
        "http://a_b/",
        "http://999.1.1.1/",
        "//a@b@c",
        "//%41",
        "http://u@[::1]:80/x",
        "http://[::1]:/",
        "http://[::1%eth0]/",
        "http://[fe80::1%a_b.1]/",
        "http://[::1.2.3.4]/",
        "/~a'(b)*!;c=d,e&f=g+h$",
        "/\u00e9",
        "http://h/\u00e9?\u00e9#\u00e9",
    ],
)
def test_a_uri_reference_is_taken(uri: str) -> None:
    assert is_uri_reference(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "::",
        ":a",
        "x:",
        "urn:",
        "http:#f",
        "1x:y",
        "x_:y",
        "a[b",
        "//a[b]",
        "//",
        "http://",
        "#a#b",
        "a b",
        "/a\tb",
        "/a^b",
        "/a|b",
        "/a`b",
        "/a{b}",
        '/a"b',
        "/a<b",
        "/a\\b",
        "%",
        "/%4",
        "/%zz",
        "/\u0080",
        "/\u00a0",
        "/\u2028",
        "http://[::1",
        "http://[::1]x/",
        "http://[::1]:a/",
        "http://[::1]@b/",
        "http://[g::1]/",
        "http://[]/",
        "http://[v1.a]/",
        "http://[1.2.3.4]/",
        "http://[fe80::1%]/",
        "http://[fe80::1%a-b]/",
    ],
)
def test_another_text_is_no_uri_reference(uri: str) -> None:
    assert not is_uri_reference(uri)


PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
URIS = st.text(st.sampled_from("ab1:/?#[]@%4-._~^|"), min_size=1, max_size=12)
TIMES = st.text(st.sampled_from("0123456789:+-.TZtz "), max_size=30) | st.datetimes(
    timezones=st.timezones()
).map(lambda time: time.isoformat())
EXTENSIONS = st.dictionaries(
    st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True).filter(lambda name: name not in RESERVED),
    PRINTABLE,
    max_size=4,
)
RESERVED = {"specversion", "type", "source", "id", "subject", "time", "datacontenttype"}


def delivered(event: CloudEvent) -> CloudEvent:
    """The event as the next stage reads it."""
    headers = [(name, str(value).encode()) for name, value in event.kafka_headers()]
    record = Record("orders.inbox.v1", 3, 42, 0, event.key, event.data, headers)
    (sent,) = events_of_poll([record], Origin("orderflow", "validate", {}))
    assert sent is not None
    lines = (head_of(sent) or b"").removesuffix(b"\r\n").split(b"\r\n")
    pairs = [line.partition(b":")[::2] for line in lines]
    return cloudevent.from_http([(name, value.strip()) for name, value in pairs], sent.data or b"")


@given(URIS | PRINTABLE, TIMES, EXTENSIONS, URIS | st.none())
@example("a[b", "", {}, None)
@example("/shop", "2026-11-29T10:00:00+18:30", {}, None)
@example("/shop", "", {}, "::")
def test_what_the_check_passes_arrives_as_the_same_event_and_what_it_refuses_does_not(
    source: str, time: str, extensions: dict[str, str], schema: str | None
) -> None:
    extensions |= {} if schema is None else {"dataschema": schema}
    event = CloudEvent("t.v1", source, "e-1", "o-1", time, b"{}", JSON, extensions)
    try:
        event = cloudevent.checked(event.attributes(), event.data, JSON)
    except PoisonError:
        return
    try:
        check(event)
    except PoisonError:
        with pytest.raises(PoisonError) as caught:
            delivered(event)
        assert caught.value.reasons[0].code == "not_a_cloudevent"
    else:
        arrived = delivered(event)
        assert (arrived.source, arrived.id, arrived.type, arrived.subject, arrived.data) == (
            event.source,
            event.id,
            event.type,
            event.subject,
            event.data,
        )
        assert arrived.extensions == event.extensions | {
            "knativekafkapartition": "3",
            "knativekafkaoffset": "42",
        }
        if event.time:
            assert cloudevent.moment(arrived.time) == cloudevent.moment(event.time)
