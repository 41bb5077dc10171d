"""What track decides, without a database."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.events import event, order, paid, placed

from orderflow.domain.lifecycle import Outcome
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision
from orderflow.track.decision import Arrival, Plan, Snapshot
from orderflow.validate.handler import validate


def arrival(sent: CloudEvent) -> Arrival:
    return decision.read(validate(sent, Rules()))


def after(plan: Plan, known: Snapshot | None = None) -> Snapshot:
    """What the database knows once a plan is written."""
    before = known or Snapshot()
    return Snapshot(plan.lock + 1, plan.state or before.state, plan.document, waiting=before.waiting)


def test_a_placed_order_gives_an_order_a_row_of_history_a_row_of_the_ledger_and_an_announcement() -> None:
    sent = placed("o-1")
    plan = decision.plan(arrival(sent), Snapshot(), "track-00001")
    assert [(row.source, row.id, row.outcome) for row in plan.entries] == [
        (sent.source, sent.id, Outcome.APPLIED)
    ]
    assert [(change.kind, change.state.version) for change in plan.changes] == [("accepted", 1)]
    (status_event,) = plan.announced
    data = json.loads(status_event.data)
    assert (data["status"], data["payment"], data["order"]["total"]) == ("accepted", "unpaid", 2900)
    assert status_event.extensions["partitionkey"] == status_event.subject == "o-1"


def test_what_waited_follows_in_the_order_in_which_it_happened() -> None:
    early = [
        arrival(event("delivered", "o-1", time="2026-11-23T13:00:00Z")),
        arrival(event("shipped", "o-1", {"carrier": "DHL"}, time="2026-11-23T12:00:00Z")),
        arrival(paid("o-1", time="2026-11-23T11:00:00Z")),
    ]
    plan = decision.plan(arrival(placed("o-1")), Snapshot(lock=3, waiting=tuple(early)), "r")
    assert [change.kind for change in plan.changes] == ["accepted", "paid", "shipped", "delivered"]
    assert [change.state.version for change in plan.changes] == [1, 2, 3, 4]
    assert [entry.previous_outcome for entry in plan.entries] == [None, *[Outcome.WAITING] * 3]
    assert plan.entries[0].versions == (1, 4)
    assert [json.loads(each.data)["kind"] for each in plan.announced] == [
        "accepted",
        "paid",
        "shipped",
        "delivered",
    ]


def test_what_still_cannot_follow_goes_on_waiting_and_what_never_can_is_parked() -> None:
    early = (arrival(event("delivered", "o-1")), arrival(paid("o-1", amount=1)))
    plan = decision.plan(arrival(placed("o-1")), Snapshot(lock=2, waiting=early), "r")
    assert [change.kind for change in plan.changes] == ["accepted"]
    assert [record.outcome for record in plan.entries] == [Outcome.APPLIED, Outcome.PARKED]
    assert json.loads(plan.parked[0].data)["reasons"][0]["code"] == "amount_mismatch"


def test_a_duplicate_writes_nothing_and_announces_what_was_announced() -> None:
    now = arrival(placed("o-1"))
    first = decision.plan(now, Snapshot(), "r1")
    known = replace(after(first), entry=first.entries[0], changes=tuple(first.changes))
    second = decision.plan(now, known, "r2")
    assert not second.writes
    assert second.announced == first.announced
    assert second.parked == []


def test_a_parked_event_that_is_replayed_is_decided_anew_with_the_content_it_has_now() -> None:
    order_state = after(decision.plan(arrival(placed("o-1")), Snapshot(), "r1"))
    wrong = paid("o-1", amount=1)
    first = decision.plan(arrival(wrong), order_state, "r1")
    assert [record.outcome for record in first.entries] == [Outcome.PARKED]
    corrected = replace(wrong, data=paid("o-1").data, extensions={"replay": "a-1"})
    second = decision.plan(arrival(corrected), replace(order_state, entry=first.entries[0]), "r2")
    assert [(entry.outcome, entry.previous_outcome) for entry in second.entries] == [
        (Outcome.APPLIED, Outcome.PARKED)
    ]
    assert [change.kind for change in second.changes] == ["paid"]
    assert len(second.announced) == 1
    assert second.parked == []


def test_a_replay_that_fails_again_is_parked_again_and_says_which_replay_it_was() -> None:
    order_state = after(decision.plan(arrival(placed("o-1")), Snapshot(), "r1"))
    wrong = paid("o-1", amount=1)
    first = decision.plan(arrival(wrong), order_state, "r1")
    again = arrival(wrong.with_extensions(replay="a-1"))
    second = decision.plan(again, replace(order_state, entry=first.entries[0]), "r2")
    assert [(entry.outcome, entry.previous_outcome) for entry in second.entries] == [
        (Outcome.PARKED, Outcome.PARKED)
    ]
    assert json.loads(second.parked[0].data)["attributes"]["replay"] == "a-1"
    assert second.parked[0].id == first.parked[0].id


def test_a_replay_of_what_has_taken_effect_is_a_duplicate() -> None:
    now = arrival(placed("o-1").with_extensions(replay="a-1"))
    first = decision.plan(now, Snapshot(), "r1")
    second = decision.plan(now, replace(after(first), entry=first.entries[0]), "r2")
    assert not second.writes


@pytest.mark.parametrize(
    ("sequence", "expected"), [("17", 17), ("0017", 17), ("", None), ("b", None), ("9" * 19, None)]
)
def test_a_sequence_is_kept_where_it_is_a_whole_number(sequence: str, expected: int | None) -> None:
    sent = placed("o-1").with_extensions(sequence=sequence) if sequence else placed("o-1")
    (entry,) = decision.plan(arrival(sent), Snapshot(), "r").entries
    assert entry.sequence == expected


def test_an_id_used_again_with_other_content_is_parked_and_changes_nothing() -> None:
    sent = placed("o-1")
    first = decision.plan(arrival(sent), Snapshot(), "r")
    changed = arrival(replace(sent, data=json.dumps(order(metadata={"gift": "yes"})).encode()))
    second = decision.plan(
        changed, replace(after(first), entry=first.entries[0], changes=tuple(first.changes)), "r"
    )
    assert not second.writes
    assert second.announced == []
    assert json.loads(second.parked[0].data)["reasons"][0]["code"] == "event_id_reused"


def test_a_forbidden_event_is_parked_again_under_the_same_id_when_it_comes_again() -> None:
    shipped = after(
        decision.plan(
            arrival(event("shipped", "o-1")),
            after(decision.plan(arrival(placed("o-1")), Snapshot(), "r")),
            "r",
        )
    )
    late = arrival(event("cancelled", "o-1"))
    first = decision.plan(late, shipped, "r")
    assert first.entries[0].outcome is Outcome.PARKED
    assert first.changes == []
    again = decision.plan(late, replace(shipped, entry=first.entries[0]), "r")
    assert not again.writes
    assert [each.id for each in again.parked] == [each.id for each in first.parked]


def test_a_stale_event_is_refused_and_recorded() -> None:
    known = after(decision.plan(arrival(placed("o-1")), Snapshot(), "r"))
    known = after(decision.plan(arrival(event("shipped", "o-1")), known, "r"))
    plan = decision.plan(arrival(event("packed", "o-1")), known, "r")
    assert [(row.outcome, row.reason and row.reason.code) for row in plan.entries] == [
        (Outcome.REFUSED, "stale")
    ]
    assert (plan.announced, plan.parked) == ([], [])


@pytest.mark.parametrize("missing", ["originsource", "originid", "origindigest"])
def test_an_event_without_its_origin_is_poison(missing: str) -> None:
    whole = validate(placed("o-1"), Rules())
    cut = replace(
        whole, extensions={name: text for name, text in whole.extensions.items() if name != missing}
    )
    with pytest.raises(PoisonError) as caught:
        decision.read(cut)
    assert caught.value.reasons[0].field == missing


def test_a_held_event_is_a_verdict_if_it_has_an_order_and_an_operators_hold_if_not() -> None:
    review = Rules(review={"EUR": 1})
    assert isinstance(decision.read(validate(placed("o-1"), review)).fact, decision.Verdict)
    hold_data = {"reason": 'says "order":{} and more', "by": "ada"}
    hold = decision.read(validate(event("held", "o-1", hold_data), review))
    assert not isinstance(hold.fact, decision.Verdict)


def received_event(**changes: Any) -> parked_event.ReceivedEvent:
    fields = {
        "attributes": {"source": "/s", "id": "1", "subject": "o-1"},
        "content_type": "",
        "body": b"x",
    } | changes
    return parked_event.ReceivedEvent(**fields)


def test_the_same_letter_is_parked_under_the_same_id_wherever_it_lies() -> None:
    why = [Reason("code", "field", "text")]
    first = parked_event.parked(received_event(), stage="track", revision="r1", reasons=why)
    redelivered = received_event(
        attributes={"source": "/s", "id": "1", "subject": "o-1", "knativekafkaoffset": "9"}
    )
    assert parked_event.parked(redelivered, stage="track", revision="r2", reasons=why).id == first.id
    different = [
        parked_event.parked(received_event(body=b"y"), stage="track", revision="r", reasons=why),
        parked_event.parked(received_event(), stage="notify", revision="r", reasons=why),
        parked_event.parked(received_event(), stage="track", revision="r", reasons=[Reason("other", "", "")]),
    ]
    assert len({first.id, *(each.id for each in different)}) == 4


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"x" * 500_000, '"Zoë"'.encode()])
def test_a_parked_payload_comes_back_as_it_was(body: bytes) -> None:
    event = parked_event.parked(
        received_event(body=body), stage="track", revision="r", reasons=[Reason("c", "", "t")]
    )
    assert parked_event.read(event).payload == body


def test_a_dead_letter_says_where_why_and_with_which_code() -> None:
    error_attributes = {
        "knativeerrordest": "http://track.orderflow.svc.cluster.local",
        "knativeerrorcode": "503",
    }
    parked = parked_event.read(
        parked_event.dead_letter(
            received_event(attributes={"id": "1", "source": "/s"} | error_attributes), "r"
        )
    )
    assert (parked.stage, parked.http_code, parked.reasons[0].code) == ("track", 503, "dead_letter")
    assert parked.topic == "orders.events.v1"


@pytest.mark.parametrize(
    ("attributes", "order_id"),
    [
        ({"subject": "o-1"}, "o-1"),
        ({"subject": "partition:1#2", "key": "o-2"}, "o-2"),
        ({"partitionkey": "o-3"}, "o-3"),
        ({"key": "\x00"}, ""),
        ({}, ""),
    ],
)
def test_a_letters_order_is_found_where_one_is_named(attributes: dict[str, str], order_id: str) -> None:
    assert received_event(attributes=attributes).order_id == order_id
