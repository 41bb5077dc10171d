"""The trace context of a record as KafkaSource sends it: the values of OpenTelemetry for Java."""

import pytest

from orderflow_sandbox.delivery.events import head_of
from orderflow_sandbox.delivery.records import Origin, Record, events_of_poll
from orderflow_sandbox.delivery.trace import context_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def context(parent: str = PARENT, **more: str) -> dict[str, str]:
    return context_of([("traceparent", parent.encode()), *((key, more[key].encode()) for key in more)])


@pytest.mark.parametrize(
    "parent",
    [
        "",
        f"{PARENT}-x",
        f"ff{PARENT[2:]}",
        f"01{PARENT[2:]}x",
        f" {PARENT}",
        PARENT.upper(),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0G",
    ],
)
def test_without_a_valid_parent_nothing_is_sent(parent: str) -> None:
    assert context(parent, tracestate="a=b", baggage="c=d") == {}


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (PARENT, "01"),
        (f"00-{TRACE}-{SPAN}-ff", "01"),
        (f"00-{TRACE}-{SPAN}-02", "00"),
        (f"01-{TRACE}-{SPAN}-01-more", "01"),
    ],
)
def test_the_trace_goes_on_in_version_00_and_only_the_flag_sampled_is_kept(parent: str, flags: str) -> None:
    assert context(parent) == {"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}


@pytest.mark.parametrize(
    ("state", "sent"),
    [
        ("a=b, c=d ,e=f", "a=b,c=d,e=f"),
        ("a=b,", "a=b"),
        ("a@b=c", "a@b=c"),
        ("a", None),
        ("A=b", None),
        ("a=b=c", None),
        ("a=b,a=c", None),
        ("a=b,,c=d", None),
        (",".join(f"k{n}=v" for n in range(33)), None),
    ],
)
def test_an_invalid_state_is_left_out_as_a_whole(state: str, sent: str | None) -> None:
    assert context(tracestate=state).get("tracestate") == sent


@pytest.mark.parametrize(
    ("baggage", "sent"),
    [
        ("a=b,c=d", "a=b,c=d"),
        ("a = b , c", "a=b"),
        (",a=b", "a=b"),
        ("a=b=c", "a=b%3Dc"),
        ("a=/x:y@z", "a=%2Fx:y@z"),
        ("a=b%20c", "a=b%20c"),
        ("a=b;m=1,c=d", "a=b;m%3D1,c=d"),
        ("a=b c", None),
        ("a=é", None),
        ("a=%zz", None),
        ("a", None),
    ],
)
def test_baggage_is_written_again(baggage: str, sent: str | None) -> None:
    assert context(baggage=baggage).get("baggage") == sent


def test_the_context_goes_out_as_http_headers_with_a_new_span_each_time() -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("TraceParent", PARENT.encode()),
        ("TRACESTATE", b"a=b"),
        ("Baggage", b"c=d"),
        ("traceparent", b"the first of a name counts"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/s"),
        ("ce_type", b"t"),
    ]
    (event,) = events_of_poll([Record("t", 0, 0, 0, None, b"", headers)], Origin("n", "s", {}))
    assert event is not None
    assert not [name for name in event.attributes if name in {"traceparent", "tracestate", "baggage"}]
    spans = set()
    for _ in range(2):
        lines = (head_of(event) or b"").decode().split("\r\n")
        assert {"tracestate: a=b", "baggage: c=d"} <= set(lines)
        (parent,) = [line for line in lines if line.startswith("traceparent: ")]
        version, trace_id, span_id, flags = parent.removeprefix("traceparent: ").split("-")
        assert (version, trace_id, flags) == ("00", TRACE, "01")
        spans.add(span_id)
    assert len(spans) == 2
    assert SPAN not in spans


def test_a_record_without_a_trace_has_none_of_these_headers() -> None:
    (event,) = events_of_poll([Record("t", 0, 0, 0, None, b"", [("baggage", b"c=d")])], Origin("n", "s", {}))
    assert event is not None
    head = head_of(event) or b""
    assert b"\r\ntraceparent" not in head
    assert b"\r\nbaggage" not in head
