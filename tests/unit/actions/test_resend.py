"""What an operator sends again: as it was, or edited, and never something else."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.events import event, order, paid, placed

from orderflow.actions import events, resend
from orderflow.actions.events import Request
from orderflow.actions.resend import Letter
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import inbox_event, parked_event, topics
from orderflow.messaging.cloudevent import Envelope
from orderflow.shelve.handler import errand
from orderflow.validate.handler import validate

PARKED_AT = datetime(2026, 11, 24, tzinfo=UTC)
ASKED = Request("r-1", "anna", "2026-11-24T10:00:00Z", "because")
DOCUMENTS = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


def letter(of: Envelope, stage: str = "validate", code: str = "bad", **changes: Any) -> Letter:
    """As the shelf has it once a stage has parked the event."""
    delivered = of.with_extensions(knativekafkapartition="1", knativekafkaoffset="2")
    reasons = [Reason(code, "", "a sentence")]
    sent = parked_event.parked(
        parked_event.ReceivedEvent.of_cloudevent(delivered), stage=stage, revision="r", reasons=reasons
    )
    found = parked_event.read(sent)
    shelved = Letter(
        id=sent.id,
        order_id=sent.subject,
        stage=found.stage,
        topic=found.topic,
        state="open",
        codes=tuple(reason.code for reason in found.reasons),
        attributes=found.attributes | {"datacontenttype": found.content_type},
        payload=found.payload,
        parked_at=PARKED_AT,
    )
    return replace(shelved, **changes)


@pytest.mark.parametrize(
    ("stage", "topic"),
    [
        ("validate", topics.INBOX),
        ("track", topics.EVENTS),
        ("notify", topics.STATUS),
        ("shelve", topics.PARKED),
    ],
)
def test_a_replay_is_the_event_as_it_was_and_goes_where_it_failed(stage: str, topic: str) -> None:
    sent = paid("o-1").with_extensions(partitionkey="o-1", sequence="7")
    where, again = resend.replayed(letter(sent, stage), "a-1")
    assert (where, again) == (topic, sent.with_extensions(replay="a-1"))


def test_a_replay_of_a_replay_carries_the_last_ones_id_only() -> None:
    first = paid("o-1").with_extensions(replay="a-1")
    assert resend.replayed(letter(first), "a-2")[1].extensions["replay"] == "a-2"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stage": "unknown", "topic": ""}, "stage"),
        ({"codes": ("too_large", "payload_cut")}, "payload"),
        (
            {
                "attributes": {
                    "specversion": "1.0",
                    "type": "dev.knative.kafka.event",
                    "source": "/s",
                    "id": "1",
                }
            },
            "type",
        ),
        ({"attributes": {"specversion": "1.0", "type": "t", "source": "/s"}}, "id"),
        ({"attributes": {}}, "specversion"),
    ],
)
def test_what_cannot_be_sent_as_it_was_names_why(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PoisonError) as caught:
        resend.replayed(letter(paid("o-1"), **changes), "a-1")
    assert caught.value.reasons[0].field == field


def test_a_letter_of_the_audit_goes_to_the_topic_that_it_was_found_in() -> None:
    found = letter(paid("o-1"), stage="audit", topic=topics.EVENTS)
    assert resend.replayed(found, "a-1")[0] == topics.EVENTS


def test_a_verdict_is_edited_as_the_order_that_it_was_made_of() -> None:
    sent = placed("o-1")
    verdict = validate(sent, Rules())
    document = resend.document(letter(verdict, "track"))
    assert (document["type"], document["source"], document["id"]) == (sent.type, sent.source, sent.id)
    again = resend.edited(letter(verdict, "track"), document, "a-1")
    assert validate(again, Rules()).extensions["origindigest"] == verdict.extensions["origindigest"]
    assert again.extensions == {"partitionkey": "o-1", "replay": "a-1"}


def test_an_update_that_track_parked_is_edited_under_its_first_name() -> None:
    sent = paid("o-1").with_extensions(sequence="3")
    passed = validate(sent, Rules())
    document = resend.document(letter(passed, "track"))
    assert (document["source"], document["id"]) == (sent.source, sent.id)
    assert resend.edited(letter(passed, "track"), document, "a").extensions["sequence"] == "3"


def test_what_a_producer_calls_its_origin_is_not_taken_for_ours() -> None:
    sent = paid("o-1").with_extensions(originsource="/elsewhere", originid="9")
    assert resend.document(letter(sent))["source"] == sent.source


def test_a_record_that_was_no_event_can_be_written_as_one() -> None:
    foreign = {
        "specversion": "1.0",
        "type": "dev.knative.kafka.event",
        "source": "/s#t",
        "id": "partition:0/offset:1",
    }
    odd = letter(paid("o-1"), attributes=foreign, payload=b'{"amount":2900,"currency":"EUR"}')
    document = resend.document(odd) | {"type": paid("o-1").type}
    event = resend.edited(odd, document, "a-1")
    assert (event.source, event.subject) == (events.SOURCE, "o-1")
    assert event.id == resend.edited(odd, document, "a-2").id


@pytest.mark.parametrize("stage", ["notify", "shelve"])
def test_what_our_own_stages_made_is_not_edited(stage: str) -> None:
    with pytest.raises(PoisonError) as caught:
        resend.document(letter(paid("o-1"), stage))
    assert caught.value.reasons[0].field == "stage"


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"data.amount": 0}, ["data.amount"]),
        ({"data.amont": 1}, ["data.amont"]),
        ({"data.amount": None}, ["data.amount"]),
        ({"data": "text"}, ["data"]),
        ({"data": None}, ["data"]),
        ({"type": "dev.orderflow.order.lost.v1"}, ["type"]),
        ({"subject": ""}, ["subject"]),
        ({"subject": "a b"}, ["subject"]),
        ({"id": None}, ["id"]),
        ({"id": 7}, ["id"]),
        ({"time": "soon"}, ["time"]),
        ({"colour": "red"}, ["colour"]),
        ({"lines.0": 1}, ["lines.0"]),
        ({"data.amount.x": 1}, ["data.amount.x"]),
    ],
)
def test_a_fault_of_an_edited_event_is_named_by_its_path(changes: dict[str, Any], fields: list[str]) -> None:
    found = letter(paid("o-1"))
    with pytest.raises(PoisonError) as caught:
        resend.edited(found, resend.changed(resend.document(found), changes), "a-1")
    assert [reason.field for reason in caught.value.reasons] == fields


def test_a_field_that_nobody_knows_is_taken_out_and_an_items_member_changed() -> None:
    before = {"data": order(discont=5)}
    after = resend.changed(before, {"data.discont": None, "data.lines.0.quantity": 3})
    assert "discont" not in after["data"]
    assert resend.differing(before, after) == ["data.lines.0.quantity", "data.discont"]
    assert before["data"]["lines"][0]["quantity"] == 2


@settings(deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_two_documents_differ_somewhere_or_are_the_same(one: Any, other: Any) -> None:
    assert resend.differing(one, one) == []
    found = resend.differing({"d": one}, {"d": other})
    if json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True):
        assert found == []
    elif not any(isinstance(each, dict) for each in (one, other)):
        assert found


@settings(deadline=None)
@given(st.permutations(range(6)))
def test_letters_go_in_the_order_of_their_events_and_without_a_time_of_their_parking(
    order_of: list[int],
) -> None:
    told = [
        letter(
            event("paid", "o-1", {}, time=f"2026-11-23T10:00:0{number}Z" if number < 3 else ""),
            parked_at=PARKED_AT + timedelta(seconds=number),
        )
        for number in range(6)
    ]
    assert resend.in_order([told[number] for number in order_of]) == told


@pytest.mark.parametrize("kind", ["held", "released", "cancelled"])
def test_an_orders_action_is_an_ordinary_event_that_says_who_and_why(kind: str) -> None:
    sent = events.order_event(kind, "o-1", ASKED)
    fact: Any = inbox_event.read(sent)
    assert (fact.kind, fact.by, fact.reason) == (kind, "anna", "because")
    assert (sent.source, sent.subject, sent.key) == (events.SOURCE, "o-1", b"o-1")


def test_every_action_is_read_as_it_was_written_and_has_an_id_of_its_own() -> None:
    found = letter(paid("o-1"))
    sent = events.order_event("held", "o-1", ASKED)
    made = [
        events.replay(found, ASKED),
        events.discard(found, replace(ASKED, id="r-2")),
        events.edit(found, replace(ASKED, id="r-3"), resend.document(found), ("data.amount",)),
        events.extend("o-1", ASKED, 1.5),
        events.record_of(sent, "held", ASKED),
    ]
    for each in made:
        action = events.read(each)
        assert (action.by, action.reason) == ("anna", "because")
        assert each.subject == each.extensions["partitionkey"] == "o-1"
    assert len({each.id for each in [sent, *made]}) == 6
    assert events.replay(found, ASKED).id == made[0].id


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"by": "Anna B"}, "by"), ({"by": "x" * 65}, "by"), ({"reason": "a\x00"}, "reason")],
)
def test_an_action_that_could_not_be_told_is_refused_at_once(changes: dict[str, str], field: str) -> None:
    for make in (
        lambda asked: events.order_event("held", "o-1", asked),
        lambda asked: events.discard(letter(paid("o-1")), asked),
    ):
        with pytest.raises(PoisonError) as caught:
            make(replace(ASKED, **changes))  # type: ignore[arg-type]
        assert caught.value.reasons[0].field == field


@pytest.mark.parametrize(
    ("state", "code"), [("replayed", "already_replayed"), ("discarded", "already_discarded")]
)
def test_what_is_not_open_is_not_sent_again(state: str, code: str) -> None:
    found = letter(paid("o-1"), state=state)
    work = errand(events.read(events.replay(found, ASKED)), "a-1", found)
    assert work.event is None
    assert work.refusal is not None
    assert work.refusal.code == code


def test_an_action_on_a_letter_that_nobody_knows_is_refused() -> None:
    work = errand(events.read(events.replay(letter(paid("o-1")), ASKED)), "a-1", None)
    assert work.refusal is not None
    assert work.refusal.code == "letter_unknown"
