"""The order in which parked events are sent again."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from support.events import event
from support.parked_events import PARKED_AT, parked

from orderflow.actions.parked_event import in_order


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
