"""What track decides, without a database."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.events import event, order, paid, placed
from support.tracked_order import TrackedOrder, after

from orderflow.domain.lifecycle import Outcome
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.places import Place
from orderflow.track import decision
from orderflow.track.decision import Arrival, Plan, Snapshot
from orderflow.validate.handler import validate


def arrival(sent: CloudEvent) -> Arrival:
    return decision.read(validate(sent, Rules()))


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
    second = decision.plan(now, known, "r1")
    assert not second.writes
    assert second.announced == first.announced
    assert second.parked == []


def test_a_parked_event_that_is_replayed_is_decided_anew_with_the_content_it_has_now() -> None:
    order_state = after(decision.plan(arrival(placed("o-1")), Snapshot(), "r1"))
    wrong = paid("o-1", amount=1)
    first = decision.plan(arrival(wrong), order_state, "r1")
    assert [record.outcome for record in first.entries] == [Outcome.PARKED]
    corrected = replace(wrong, data=paid("o-1").data, extensions={"replay": "a-1"})
    known = replace(order_state, entry=first.entries[0], replay_known=True)
    second = decision.plan(arrival(corrected), known, "r2")
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
    known = replace(order_state, entry=first.entries[0], replay_known=True)
    second = decision.plan(again, known, "r2")
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


def codes(plan: Plan) -> list[str]:
    return [json.loads(each.data)["reasons"][0]["code"] for each in plan.parked]


def test_an_event_that_the_audit_publishes_again_after_a_later_one_was_decided_is_overtaken() -> None:
    """Q1: held was dropped, released was refused as stale. Were held applied now, the order would be held for good."""
    known = TrackedOrder()
    known.take(placed("o-1"))
    assert known.take(event("released", "o-1"), 7).outcome == "refused"
    plan = known.take_late(event("held", "o-1"), 5)
    assert (plan.outcome, codes(plan), plan.changes, plan.announced) == ("parked", ["overtaken"], [], [])
    assert known.status == "accepted"


def test_an_event_with_a_lower_sequence_than_a_decided_one_is_overtaken_wherever_it_lies() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    known.take(event("released", "o-1"), sequence="2")
    plan = known.take(event("held", "o-1"), sequence="1")
    assert codes(plan) == ["overtaken"]
    assert plan.entries[0].reason is not None
    assert plan.entries[0].reason.field == "sequence"


def test_events_of_another_source_overtake_nothing() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    known.take(event("shipped", "o-1", source="/warehouse"), 7)
    assert known.take_late(paid("o-1"), 5).outcome == "applied"


def test_what_would_have_no_effect_anyway_is_refused_or_parked_for_its_own_reason() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    known.take(event("shipped", "o-1"), 9)
    assert known.take_late(event("packed", "o-1"), 5).outcome == "refused"
    assert codes(known.take_late(event("cancelled", "o-1"), 6)) == ["forbidden_transition"]
    assert codes(known.take_late(paid("o-1", amount=1), 7)) == ["amount_mismatch"]


def test_an_event_that_would_only_wait_is_overtaken_too() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    known.take(event("held", "o-1"), 7)
    plan = known.take_late(event("packed", "o-1"), 5)
    assert (codes(plan), plan.waits) == (["overtaken"], False)


@pytest.mark.parametrize(
    "later", [paid("o-1", amount=1), event("refunded", "o-1", {"amount": 1, "currency": "EUR"})]
)
def test_what_is_parked_or_waits_overtakes_nothing(later: CloudEvent) -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    assert known.take(later, 7).outcome in {"parked", "waiting"}
    assert known.take_late(paid("o-1"), 5).outcome == "applied"


def test_an_event_that_waited_in_its_sequence_is_not_overtaken_when_its_time_comes() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    known.take(event("delivered", "o-1"), 5)
    known.take(paid("o-1"), 6)
    known.take(event("shipped", "o-1", source="/warehouse"), 7)
    assert known.status == "delivered"


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "end"),
    [
        (event("held", "o-1", id="b"), event("released", "o-1", id="a"), ("accepted", "unpaid")),
        (
            event("authorised", "o-1", {"amount": 2900, "currency": "EUR"}, id="b"),
            event("declined", "o-1", id="a"),
            ("accepted", "failed"),
        ),
    ],
)
def test_what_waited_within_one_second_follows_in_sequence_whatever_the_ids_are(
    first: CloudEvent, second: CloudEvent, end: tuple[str, str], *, numbered: bool
) -> None:
    """T3 and T4. With a sequence, the events may even lie in the inbox the other way round."""
    known = TrackedOrder()
    if numbered:
        known.take(second, sequence="2")
        known.take(first, sequence="1")
    else:
        known.take(first)
        known.take(second)
    known.take(replace(placed("o-1"), source="/storefront"))
    assert (known.status, known.payment) == end


@pytest.mark.parametrize("carries_its_first_place", [True, False])
def test_a_replay_is_decided_once_however_often_it_is_delivered(*, carries_its_first_place: bool) -> None:
    """T1 and T2: a replay that was refused took effect when it was delivered once more, after later events."""
    known = TrackedOrder()
    known.take(placed("o-1"))
    held = event("held", "o-1")
    known.take(event("held", "o-1", source="/operators"))
    assert known.take(held, 3).outcome == "refused"
    again = {"replay": "a-1"} | ({"firstplace": "inbox-id:0:3"} if carries_its_first_place else {})
    assert known.take(held, **again).outcome == "refused"
    known.take(event("released", "o-1"))
    known.take(paid("o-1"))
    for _ in range(2):
        plan = known.take(held, **again)
        assert (plan.outcome, plan.announced, plan.parked) == ("duplicate", [], [])
    assert (known.status, known.payment) == ("accepted", "paid")


def test_each_replay_is_remembered_also_after_another_one() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    wrong = paid("o-1", amount=1)
    known.take(wrong, 5)
    for replay in ("a-1", "a-2"):
        assert codes(known.take_late(wrong, 5, replay=replay)) == ["amount_mismatch"]
    entry = known.entries[wrong.source, wrong.id]
    assert entry.replays == ("a-1", "a-2")
    assert known.take_late(wrong, 5, replay="a-1").outcome == "duplicate"


def test_a_replay_of_what_track_never_had_is_remembered_too() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    known.take_late(event("shipped", "o-1"), 5, replay="a-1")
    assert known.take_late(event("shipped", "o-1"), 5, replay="a-1").outcome == "refused"
    late = event("packed", "o-1")
    known.take_late(late, 5, replay="a-2")
    assert known.entries[late.source, late.id].replays == ("a-2",)
    assert known.take_late(late, 5, replay="a-2").outcome == "duplicate"


def test_a_replay_that_no_operator_sent_changes_nothing() -> None:
    """T5 and T5b: other content under a used id took effect, and what was refused was decided anew."""
    known = TrackedOrder()
    known.forged = {"1"}
    known.take(placed("o-1"))
    wrong = paid("o-1", amount=1)
    known.take(wrong)
    before = known.snapshot.state
    other = replace(wrong, data=paid("o-1").data)
    assert codes(known.take(other, replay="1")) == ["event_id_reused"]
    assert codes(known.take(wrong, replay="1")) == ["amount_mismatch"]
    assert (known.snapshot.state, known.entries[wrong.source, wrong.id].replays) == (before, ())


def test_what_a_forged_replay_overtook_stays_overtaken_and_no_row_names_it() -> None:
    known = TrackedOrder()
    known.forged = {"1"}
    known.take(placed("o-1"))
    held, released = event("held", "o-1"), event("released", "o-1")
    known.take(released.with_extensions(sequence="2"))
    plan = known.take(held.with_extensions(sequence="1"), replay="1")
    assert codes(plan) == ["overtaken"]
    assert "replay" not in json.loads(plan.parked[0].data)["attributes"]
    assert known.entries[held.source, held.id].replays == ()


def test_an_operator_applies_an_overtaken_event_by_replaying_it() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    known.take(event("released", "o-1"), 7)
    held = event("held", "o-1")
    known.take_late(held, 5)
    assert codes(known.take_late(held, 5, replay="a-1")) == ["overtaken"]
    assert known.take(held, replay="a-2").outcome == "applied"
    assert known.status == "held"
    assert known.snapshot.decided[held.source].place == Place("inbox-id", 0, 7)


def test_the_content_that_an_edit_replaced_is_a_duplicate_when_it_is_delivered_again() -> None:
    known = TrackedOrder()
    known.take(placed("o-1"))
    wrong = paid("o-1", amount=1)
    known.take(wrong, 5)
    mended = known.take_late(replace(wrong, data=paid("o-1").data), 5, replay="a-1")
    assert mended.outcome == "applied"
    plan = known.take(wrong, 5)
    assert (plan.outcome, plan.parked) == ("duplicate", [])
    assert [each.id for each in plan.announced] == [each.id for each in mended.announced]
    other = known.take(replace(wrong, data=paid("o-1", amount=2).data))
    assert codes(other) == ["event_id_reused"]


def without_content_digest(snapshot: Snapshot) -> Snapshot:
    """As an older release wrote it."""
    state = snapshot.state
    return replace(
        snapshot,
        state=replace(state, content_digest="") if state else None,
        entry=replace(snapshot.entry, content_digest="") if snapshot.entry else None,
    )


def test_a_row_without_a_content_digest_recognises_its_event_and_its_order() -> None:
    sent = placed("o-1")
    first = decision.plan(arrival(sent), Snapshot(), "r")
    known = without_content_digest(replace(after(first), entry=first.entries[0]))
    assert decision.plan(arrival(sent), known, "r").parked == []
    again = decision.plan(arrival(replace(sent, id="another")), replace(known, entry=None), "r")
    assert again.entries[0].reason is not None
    assert again.entries[0].reason.code == "already_placed"
    other = arrival(replace(sent, data=json.dumps(order(metadata={"gift": "yes"})).encode()))
    assert codes(decision.plan(other, known, "r")) == ["event_id_reused"]


def test_with_a_content_digest_an_event_is_known_again_although_its_origin_digest_differs() -> None:
    """As where another release writes defaults that this one does not know."""
    sent = placed("o-1")
    first = decision.plan(arrival(sent), Snapshot(), "r")
    known = replace(after(first), entry=first.entries[0])
    newer = replace(arrival(sent), digest="with one more default")
    assert decision.plan(newer, known, "r").parked == []
    again = decision.plan(replace(newer, id="another"), replace(known, entry=None), "r")
    assert [entry.outcome for entry in again.entries] == [Outcome.REFUSED]


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
