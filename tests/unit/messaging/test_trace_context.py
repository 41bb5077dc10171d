"""Which trace an event belongs to."""

import pytest
from support.events import paid, placed

from orderflow import settings
from orderflow.domain.rules import Rules
from orderflow.errors import BadSettingsError, Reason
from orderflow.messaging import parked_event, trace_context
from orderflow.track import decision
from orderflow.validate.handler import validate

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SAME_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "Ada Lovelace",
        PARENT.upper(),
        PARENT.replace("00-", "ff-", 1),
        f"{PARENT}-more",
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
    ],
)
def test_what_is_no_traceparent_is_not_carried(bad: str) -> None:
    assert trace_context.extract({"traceparent": bad, "tracestate": "a=1"}) == {}
    assert trace_context.from_http({}, [(b"traceparent", bad.encode())]) == ({}, ())


def test_a_tracestate_goes_along_with_its_traceparent_only_if_it_can_be_an_attribute() -> None:
    assert trace_context.extract({"traceparent": PARENT, "tracestate": "shop=7"}) == {
        "traceparent": PARENT,
        "tracestate": "shop=7",
    }
    for bad in ("", "é", "a" * 513, "a\0"):
        assert trace_context.extract({"traceparent": PARENT, "tracestate": bad}) == {"traceparent": PARENT}


@pytest.mark.parametrize(
    ("own", "hop", "carried", "links"),
    [
        (None, PARENT, PARENT, ()),
        (PARENT, None, PARENT, ()),
        (PARENT, SAME_TRACE, SAME_TRACE, ()),
        (PARENT, OTHER, PARENT, (OTHER,)),
        ("Ada Lovelace", OTHER, OTHER, ()),
    ],
)
def test_within_one_trace_the_hop_is_nearer_and_another_is_linked(
    own: str | None, hop: str | None, carried: str, links: tuple[str, ...]
) -> None:
    headers = [(b"traceparent", hop.encode())] if hop else []
    attributes = {"sequence": "7"} | ({"traceparent": own} if own else {})
    extensions, found_links = trace_context.from_http(attributes, headers)
    assert extensions == {"sequence": "7", "traceparent": carried}
    assert found_links == links


def test_what_is_moved_belongs_to_its_cause_and_is_linked_to_where_it_was() -> None:
    event = placed("o-1").with_extensions(traceparent=PARENT, tracestate="a=1", sequence="7")
    relinked = trace_context.relink(event, paid("o-1").with_extensions(traceparent=OTHER))
    assert relinked.extensions == {"sequence": "7", "traceparent": OTHER}
    assert relinked.links == (PARENT,)
    assert trace_context.relink(event).extensions == {"sequence": "7"}


def test_links_do_not_go_over_the_wire() -> None:
    relinked = trace_context.relink(placed("o-1").with_extensions(traceparent=PARENT))
    assert PARENT not in str(relinked.kafka_headers())


def test_a_trace_goes_on_through_every_stage_whether_or_not_it_is_recorded() -> None:
    sent = placed("o-1").with_extensions(traceparent=PARENT, tracestate="a=1")
    validated = validate(sent, Rules())
    (announced,) = decision.plan(decision.read(validated), decision.Snapshot(), "r").announced
    received = parked_event.ReceivedEvent.of_cloudevent(announced)
    parked = parked_event.parked(received, stage="notify", revision="r", reasons=[Reason("x", "", "x")])
    for event in (validated, announced, parked):
        assert (event.extensions["traceparent"], event.extensions["tracestate"]) == (PARENT, "a=1")


def test_an_event_that_waited_in_vain_is_parked_in_a_trace_of_its_own() -> None:
    parked = decision.expired(paid("o-1").with_extensions(traceparent=PARENT), "r")
    assert "traceparent" not in parked.extensions
    assert parked.links == (PARENT,)


def test_a_letter_with_an_unusable_context_can_still_be_shelved() -> None:
    received = parked_event.ReceivedEvent({"traceparent": "x" * 2000, "id": "1"}, "text/plain", b"")
    parked = parked_event.parked(received, stage="validate", revision="r", reasons=[Reason("x", "", "x")])
    assert "traceparent" not in parked.extensions


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"), ("OTEL_TRACES_SAMPLER_ARG", "1.5")],
)
def test_a_bad_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettingsError, match=name):
        settings.load(settings.StageSettings)
