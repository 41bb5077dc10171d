"""The schemas against the code: what the stages write fits them, and what they promise is taken."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.events import event, order, paid, placed

from orderflow.actions import events
from orderflow.actions.events import ActionRequest
from orderflow.actions.parked_event import ParkedEvent
from orderflow.contracts.documents import documents, files
from orderflow.contracts.messages import all_messages
from orderflow.domain.events import INBOX, kind_of, parse, type_of
from orderflow.domain.money import MINOR_DIGITS
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import inbox_event, parked_event, topics
from orderflow.messaging.cloudevent import CloudEvent, moment
from orderflow.messaging.status_event import Change, status_event
from orderflow.track import decision
from orderflow.track.decision import Snapshot
from orderflow.validate.handler import validate

FOLDER = Path(__file__).parents[3] / "contracts"
SCHEMAS = {path: schema for path, schema in documents().items() if path.startswith("schemas/")}

UPDATES: dict[str, dict[str, Any]] = {
    "held": {"reason": "odd", "by": "ada"},
    "released": {},
    "cancelled": {"reason": "sold out"},
    "authorised": {"amount": 2900, "currency": "EUR", "reference": "r-1"},
    "paid": {"amount": 2900, "currency": "EUR"},
    "refunded": {"amount": 100, "currency": "EUR"},
    "declined": {"reason": "no funds", "reference": "r-1"},
    "packed": {},
    "shipped": {"carrier": "DHL", "tracking": "1Z"},
    "delivered": {},
    "returned": {"reason": "too small"},
}


@cache
def validator(side: str, topic: str, event_type: str) -> Draft202012Validator:
    schema = SCHEMAS[f"schemas/{side}/{topic}/{event_type}.json"]
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(side: str, topic: str, event: CloudEvent) -> list[str]:
    document = event.attributes() | {"datacontenttype": event.content_type, "data": json.loads(event.data)}
    return [
        f"{error.json_path}: {error.message}"
        for error in validator(side, topic, event.type).iter_errors(document)
    ]


def inbox_events() -> dict[str, CloudEvent]:
    full = order(
        order_id="o-1",
        billing_address=order()["shipping_address"] | {"line2": "Back", "region": "BE", "postcode": "10115"},
        metadata={"cart": "4711"},
    )
    orders = {"placed": placed("o-1"), "placed in full": event("placed", "o-1", full)}
    return orders | {kind: event(kind, "o-1", data) for kind, data in UPDATES.items()}


def test_what_is_committed_is_what_the_code_gives() -> None:
    committed_files = (file for file in FOLDER.rglob("*") if file.is_file())
    committed = {str(file.relative_to(FOLDER)): file.read_text() for file in committed_files}
    generated = files()
    stale = [
        path for path in committed.keys() | generated.keys() if committed.get(path) != generated.get(path)
    ]
    assert not stale, "`make contracts` writes them anew"


@pytest.mark.parametrize("path", SCHEMAS)
def test_every_schema_is_one_of_draft_2020_12(path: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[path])


def test_every_topic_and_type_of_event_has_its_schema() -> None:
    assert {message.topic for message in all_messages()} == set(topics.ALL)
    assert {message.kind for message in all_messages() if message.topic == topics.INBOX} == INBOX.keys()
    names = [message.name for message in all_messages()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", inbox_events())
def test_what_shops_send_is_followed_through_every_topic_by_its_schema(name: str) -> None:
    inbox = inbox_events()[name]
    assert faults("read", topics.INBOX, inbox) == []
    event = validate(inbox.with_extensions(sequence="1", traceparent="00-1-2-03"), Rules(), "validate-00001")
    for side in ("written", "read"):
        assert faults(side, topics.EVENTS, event) == []
    for announced in announcements(event):
        for side in ("written", "read"):
            assert faults(side, topics.STATUS, announced) == []


def announcements(event: CloudEvent) -> list[CloudEvent]:
    """What track announces of an event, whether or not the lifecycle would let it happen to a new order."""
    accepted = decision.read(validate(placed("o-1"), Rules()))
    first = decision.plan(accepted, Snapshot(), "track-00001")
    arrival = decision.read(event)
    change = first.changes[0]
    detail = arrival.fact.model_dump(mode="json", exclude={"order"}, exclude_none=True)
    kind = kind_of(event.type) or ""
    again = Change(arrival.source, arrival.id, kind, change.state, detail, arrival.occurred_at)
    return [*first.announced, status_event("o-1", first.document, again, event)]


def test_every_verdict_fits_its_schema() -> None:
    rules = Rules.model_validate({"review": {"EUR": 100000}})
    verdicts = {
        "accepted": placed("o-1"),
        "rejected": placed("o-1", total=1),
        "held": placed("o-1", shipping=200000, total=202500),
    }
    for kind, inbox in verdicts.items():
        verdict = validate(inbox, rules)
        assert verdict.type == type_of(kind)
        for side in ("written", "read"):
            assert faults(side, topics.EVENTS, verdict) == []


@pytest.mark.parametrize("body", [b"", b"\x00no json", b'{"a": 1}'])
def test_whatever_is_parked_fits_its_schema(body: bytes) -> None:
    received_events = [
        parked_event.ReceivedEvent({}, "", body),
        parked_event.ReceivedEvent(
            {"knativekafkapartition": "3", "knativekafkaoffset": "9", "subject": "o-1"}, "text/plain", body
        ),
    ]
    for received in received_events:
        parked = [
            parked_event.parked(
                received, stage="track", revision="track-00001", reasons=[Reason("a", "b", "c")]
            ),
            parked_event.dead_letter(received, "park-00001", max_payload=1),
        ]
        for parked_item in parked:
            for side in ("written", "read"):
                assert faults(side, topics.PARKED, parked_item) == []


def test_every_action_of_an_operator_fits_its_schema() -> None:
    request = ActionRequest("r-1", "ada", "2026-11-23T10:00:00Z", "a test")
    source = paid("o-1")
    parked = ParkedEvent(
        "p-1",
        "o-1",
        "track",
        topics.EVENTS,
        "open",
        (),
        source.attributes(),
        source.data,
        moment("2026-11-23T10:00:00Z"),
    )
    hold = events.order_event("held", "o-1", request)
    action_events = [
        events.replay(parked, request),
        events.discard(parked, request),
        events.announce(parked, request),
        events.edit(parked, request, {"type": "t", "data": {}}, ("data.amount",)),
        events.extend("o-1", request, 24),
        events.record_of(hold, "held", request),
    ]
    assert {each.type for each in action_events} == events.MODELS.keys()
    for each in action_events:
        for side in ("written", "read"):
            assert faults(side, topics.PARKED, each) == []
    assert faults("read", topics.INBOX, hold) == []


def test_what_the_code_refuses_the_schema_refuses_as_far_as_it_can_be_said_in_one() -> None:
    bad = {
        "an unknown field": placed("o-1", discont=1),
        "no currency": placed("o-1", currency="XXX"),
        "a text for a number": placed("o-1", total="2900"),
        "no lines": placed("o-1", lines=[]),
        "no address": placed("o-1", shipping_address=None),
        "a control character": placed("o-1", customer={"name": "a\x00", "email": "a@b"}),
        "a name of metadata that is too long": placed("o-1", metadata={"a" * 65: "b"}),
        "a name of metadata with a control character": placed("o-1", metadata={"a\tb": "b"}),
        "an amount of nothing": paid("o-1", amount=0),
    }
    for why, inbox in bad.items():
        with pytest.raises(PoisonError):
            inbox_event.read(inbox)
        assert faults("read", topics.INBOX, inbox), why


PLAIN = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
)


@st.composite
def promised(draw: st.DrawFn, schema: dict[str, Any], whole: dict[str, Any]) -> Any:
    """A document that the schema allows, made from the few keywords that ours have."""
    if "$ref" in schema:
        return draw(promised(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole))
    if "anyOf" in schema:
        return draw(promised(draw(st.sampled_from(schema["anyOf"])), whole))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    kind = schema["type"]
    if kind == "integer":
        low = max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
        return draw(st.integers(low, schema["maximum"]))
    if kind == "array":
        return draw(
            st.lists(promised(schema["items"], whole), min_size=schema.get("minItems", 0), max_size=3)
        )
    if kind == "object":
        document = {
            name: draw(promised(each, whole))
            for name, each in schema.get("properties", {}).items()
            if name in schema.get("required", ()) or draw(st.booleans())
        }
        if schema.get("additionalProperties"):
            document |= draw(
                st.dictionaries(PLAIN, promised(schema["additionalProperties"], whole), max_size=2)
            )
        return document
    if kind == "string":
        text = st.from_regex(schema["pattern"]) | PLAIN if "pattern" in schema else PLAIN
        fits = Draft202012Validator(schema).is_valid
        return draw(text.filter(lambda each: fits(each) and not each.endswith("\n")))
    return None


@pytest.mark.parametrize("kind", INBOX)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_the_schema_promises_shops_is_taken(kind: str, data: st.DataObject) -> None:
    schema = SCHEMAS[f"schemas/read/{topics.INBOX}/{type_of(kind)}.json"]
    document = data.draw(promised(schema["properties"]["data"], schema))
    parse(INBOX[kind], json.dumps(document).encode())


def test_a_schema_names_every_currency() -> None:
    schema = SCHEMAS[f"schemas/read/{topics.INBOX}/{type_of('paid')}.json"]
    assert set(schema["$defs"]["Currency"]["enum"]) == MINOR_DIGITS.keys()
