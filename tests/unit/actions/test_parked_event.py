"""The order in which parked events are sent again."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from support.events import event
from support.parked_events import PARKED_AT, parked

from orderflow.actions.parked_event import in_order
from orderflow.messaging.places import Place


@given(st.permutations(range(6)))
def test_parked_events_go_in_the_order_of_their_events_and_without_a_time_of_their_parking(
    permutation: list[int],
) -> None:
    sorted_events = [
        parked(
            event("paid", "o-1", {}, time=f"2026-11-23T10:00:0{number}Z" if number < 3 else ""),
            parked_at=PARKED_AT + timedelta(seconds=number),
        )
        for number in range(6)
    ]
    assert in_order([sorted_events[number] for number in permutation]) == sorted_events


def test_parked_events_of_one_source_go_in_the_sequence_of_the_inbox_whatever_their_times_say() -> None:
    later, earlier, elsewhere = (
        parked(event("paid", order_id, {}, time=f"2026-11-23T10:00:0{second}Z"), place=Place("t", 0, offset))
        for order_id, second, offset in (("o-1", 1, 7), ("o-1", 9, 5), ("o-2", 2, 6))
    )
    assert in_order([later, elsewhere, earlier]) == [elsewhere, earlier, later]


def test_what_track_parked_goes_where_its_inbox_event_belongs() -> None:
    second, first = (
        parked(
            event("paid", "o-1", {}, time="2026-11-23T10:00:00Z").with_extensions(
                originsource="/shop", originid=str(offset), inboxplace=f"t:0:{offset}"
            ),
            "track",
        )
        for offset in (7, 5)
    )
    by_the_audit = parked(event("paid", "o-1", {}, source="/shop"), place=Place("t", 0, 6))
    assert in_order([second, by_the_audit, first]) == [first, by_the_audit, second]
