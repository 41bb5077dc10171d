"""What an operator sends again: as it was, or edited, and never something else."""

from typing import Any

import pytest
from support.events import event, order, paid, placed
from support.parked_events import TOPIC_ID, parked

from orderflow.actions import events, json_document, resend
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError
from orderflow.messaging import topics
from orderflow.validate.handler import validate

OWN_PLACE = f"{TOPIC_ID}:1:2"
"""The place of the records that parked() makes."""


@pytest.mark.parametrize(
    ("stage", "topic", "more"),
    [
        ("validate", topics.INBOX, {"firstplace": OWN_PLACE}),
        ("notify", topics.STATUS, {}),
        ("shelve", topics.PARKED, {}),
    ],
)
def test_a_replay_is_the_event_as_it_was_and_goes_where_it_failed(
    stage: str, topic: str, more: dict[str, str]
) -> None:
    sent = paid("o-1").with_extensions(partitionkey="o-1", sequence="7")
    where, again = resend.original_event(parked(sent, stage), "a-1")
    assert (where, again) == (topic, sent.with_extensions(replay="a-1", **more))


@pytest.mark.parametrize("stage", ["track", "audit"])
@pytest.mark.parametrize("kind", ["placed", "paid", "held"])
def test_what_track_parked_is_replayed_as_the_inbox_event_that_it_came_from(stage: str, kind: str) -> None:
    data = order(order_id="o-1", shipping=400) if kind == "placed" else {"amount": 2900, "currency": "EUR"}
    sent = event(kind, "o-1", {} if kind == "held" else data).with_extensions(sequence="7")
    validated = validate(
        sent.with_extensions(**delivery(5)).delivered_from("inbox-id"), Rules(), "validate-1"
    )
    where, again = resend.original_event(parked(validated, stage, topic=topics.EVENTS), "a-1")
    assert (where, again.type, again.source, again.id) == (topics.INBOX, sent.type, sent.source, sent.id)
    assert again.extensions == {
        "partitionkey": "o-1",
        "sequence": "7",
        "replay": "a-1",
        "firstplace": "inbox-id:0:5",
    }
    repeated = validate(again, Rules(), "validate-2").extensions
    for name in ("origindigest", "contentdigest", "sequence"):
        assert repeated[name] == validated.extensions[name]
    assert (repeated["replay"], repeated["firstplace"]) == ("a-1", "inbox-id:0:5")


def delivery(offset: int) -> dict[str, str]:
    return {"knativekafkapartition": "0", "knativekafkaoffset": str(offset)}


def test_a_first_place_stays_the_first_however_often_an_event_is_sent_again() -> None:
    first = paid("o-1").with_extensions(firstplace="inbox-id:0:5", inboxplace="forged:0:1")
    assert resend.original_event(parked(first), "a-2")[1].extensions["firstplace"] == "inbox-id:0:5"
    republished = validate(first.with_extensions(**delivery(9)).delivered_from("inbox-id"), Rules())
    assert republished.extensions["inboxplace"] == "inbox-id:0:9"
    again = resend.original_event(parked(republished, "track"), "a-3")[1]
    assert again.extensions["firstplace"] == "inbox-id:0:5"
    unplaced = parked(paid("o-1").with_extensions(inboxplace="forged:0:1"), place=None)
    assert "firstplace" not in resend.original_event(unplaced, "a-1")[1].extensions


def test_an_overtaken_event_is_sent_again_without_its_first_place() -> None:
    late = validate(paid("o-1").with_extensions(firstplace="inbox-id:0:5"), Rules())
    overtaken = parked(late, "track", code="overtaken")
    again = resend.original_event(overtaken, "a-1")[1]
    edited = resend.edited_event(overtaken, resend.document(overtaken), "a-1")
    for each in (again, edited):
        assert each.extensions == {"partitionkey": "o-1", "replay": "a-1"}


def test_an_event_of_the_events_topic_without_an_origin_can_only_be_edited() -> None:
    with pytest.raises(PoisonError) as caught:
        resend.original_event(parked(paid("o-1"), "track"), "a-1")
    assert caught.value.reasons[0].field == "originsource"


@pytest.mark.parametrize("changes", [{"subject": "o-2"}, {"source": "/elsewhere"}])
def test_an_event_that_an_edit_gives_to_another_order_or_source_has_no_position_there(
    changes: dict[str, Any],
) -> None:
    letter = parked(paid("o-1").with_extensions(sequence="7"))
    document = resend.document(letter)
    assert resend.edited_event(letter, document, "a-1").extensions == {
        "partitionkey": "o-1",
        "replay": "a-1",
        "sequence": "7",
        "firstplace": OWN_PLACE,
    }
    moved = resend.edited_event(letter, document | changes, "a-1")
    assert moved.extensions == {"partitionkey": moved.subject, "replay": "a-1"}


def test_a_replay_of_a_replay_carries_the_last_ones_id_only() -> None:
    first = paid("o-1").with_extensions(replay="a-1")
    assert resend.original_event(parked(first), "a-2")[1].extensions["replay"] == "a-2"


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
        resend.original_event(parked(paid("o-1"), **changes), "a-1")
    assert caught.value.reasons[0].field == field


def test_an_event_that_the_audit_parked_goes_to_the_topic_of_its_record() -> None:
    of_the_audit = parked(paid("o-1"), stage="audit", topic=topics.STATUS)
    assert resend.original_event(of_the_audit, "a-1")[0] == topics.STATUS


def test_a_verdict_is_edited_as_the_order_that_it_was_made_of() -> None:
    sent = placed("o-1")
    verdict = validate(sent, Rules())
    document = resend.document(parked(verdict, "track"))
    assert (document["type"], document["source"], document["id"]) == (sent.type, sent.source, sent.id)
    again = resend.edited_event(parked(verdict, "track"), document, "a-1")
    assert validate(again, Rules()).extensions["origindigest"] == verdict.extensions["origindigest"]
    assert again.extensions == {"partitionkey": "o-1", "replay": "a-1"}


def test_an_update_that_track_parked_is_edited_under_its_first_name() -> None:
    sent = paid("o-1").with_extensions(sequence="3")
    passed = validate(sent, Rules())
    document = resend.document(parked(passed, "track"))
    assert (document["source"], document["id"]) == (sent.source, sent.id)
    assert resend.edited_event(parked(passed, "track"), document, "a").extensions["sequence"] == "3"


def test_what_a_producer_calls_its_origin_is_not_taken_for_ours() -> None:
    sent = paid("o-1").with_extensions(originsource="/elsewhere", originid="9")
    assert resend.document(parked(sent))["source"] == sent.source


def test_a_record_that_was_no_event_can_be_written_as_one() -> None:
    foreign = {
        "specversion": "1.0",
        "type": "dev.knative.kafka.event",
        "source": "/s#t",
        "id": "partition:0/offset:1",
    }
    odd = parked(paid("o-1"), attributes=foreign, payload=b'{"amount":2900,"currency":"EUR"}')
    document = resend.document(odd) | {"type": paid("o-1").type}
    edited = resend.edited_event(odd, document, "a-1")
    assert (edited.source, edited.subject) == (events.SOURCE, "o-1")
    assert edited.id == resend.edited_event(odd, document, "a-2").id


@pytest.mark.parametrize("stage", ["notify", "shelve"])
def test_what_our_own_stages_made_is_not_edited(stage: str) -> None:
    with pytest.raises(PoisonError) as caught:
        resend.document(parked(paid("o-1"), stage))
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
    parked_event = parked(paid("o-1"))
    with pytest.raises(PoisonError) as caught:
        resend.edited_event(
            parked_event, json_document.changed(resend.document(parked_event), changes), "a-1"
        )
    assert [reason.field for reason in caught.value.reasons] == fields
