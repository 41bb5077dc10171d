"""Which of two events of one source is the later one, and in which sequence waiting events follow."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.messaging.places import Place
from orderflow.messaging.position import Decided, Position, in_sequence


def position(place: str = "", sequence: int | None = None, *, latecomer: bool = False) -> Position:
    return Position(Place.parse(place), sequence, latecomer=latecomer)


def decided(*positions: Position) -> Decided:
    highest = Decided()
    for each in positions:
        highest = highest.including(each)
    return highest


@pytest.mark.parametrize(
    ("late", "others", "by"),
    [
        (position("t:0:5"), [position("t:0:7")], "place"),
        (position("t:0:7"), [position("t:0:5")], ""),
        (position("t:0:5"), [position("t:0:5")], ""),
        (position("t:0:5", 1), [position("t:0:4", 2)], "sequence"),
        (position("t:0:5", 2), [position("t:0:7", 1)], ""),
        (position("t:0:5", 2), [position("t:0:7", 2)], "place"),
        (position("t:0:5", 2), [position("t:0:7")], "place"),
        (position("t:0:5"), [position("t:0:7", 1)], "place"),
        (position(sequence=1), [position("t:0:7", 2)], "sequence"),
        (position(), [position("t:0:7", 2)], ""),
        (position("t:0:5"), [], ""),
        (position("t:0:5"), [position("t:1:2")], ""),
        (position("t:0:5", latecomer=True), [position("t:1:2")], "place"),
        (position("t:1:2", latecomer=True), [position("t:0:5")], ""),
        (position("t:0:5", latecomer=True), [position("another:0:7")], ""),
        (position("another:0:5"), [position("t:0:7")], ""),
    ],
)
def test_an_event_is_overtaken_by_sequence_or_by_place_where_they_can_be_compared(
    late: Position, others: list[Position], by: str
) -> None:
    assert decided(*others).overtakes(late) == by


def test_what_an_operator_decided_to_apply_now_is_not_overtaken_and_overtakes_nothing_by_its_place() -> None:
    replay = Position.of({"replay": "a-1", "inboxplace": "t:0:9", "sequence": "1"})
    assert decided(position("t:0:7", 3)).overtakes(replay) == ""
    assert decided(position("t:0:7", 3), replay) == Decided(Place("t", 0, 7), 3)


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ({"inboxplace": "t:0:9", "sequence": "0017"}, position("t:0:9", 17)),
        ({"inboxplace": "t:0:9", "firstplace": "t:0:5"}, position("t:0:5", latecomer=True)),
        ({"firstplace": "t:0:5", "replay": "a-1"}, position("t:0:5", latecomer=True)),
        ({"inboxplace": "somewhere", "sequence": "b"}, position()),
        ({}, position()),
    ],
)
def test_an_event_belongs_where_its_first_record_lay(extensions: dict[str, str], expected: Position) -> None:
    assert Position.of(extensions) == expected


def test_a_topic_that_was_made_anew_is_later_and_a_latecomer_of_the_old_one_changes_nothing() -> None:
    highest = decided(position("old:0:900"), position("new:0:2"))
    assert highest.place == Place("new", 0, 2)
    assert highest.including(position("old:0:5", latecomer=True)) == highest


positions = st.builds(
    position,
    st.just("") | st.builds("{}:{}:{}".format, st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 3)),
    st.none() | st.integers(0, 3),
    latecomer=st.booleans(),
)


@given(st.lists(positions), positions)
def test_what_was_decided_is_written_and_read_as_it_was(several: list[Position], one: Position) -> None:
    highest = decided(*several)
    assert Decided.from_json(highest.to_json()) == highest
    assert decided(one).overtakes(one) == ""


@dataclass(frozen=True)
class Event:
    id: str
    position: Position = field(default_factory=Position)
    second: int = 0
    source: str = "/shop"

    @property
    def occurred_at(self) -> datetime:
        return datetime(2026, 11, 23, 10, 0, self.second, tzinfo=UTC)


def ids(*events: Event) -> str:
    """The same, in whatever sequence they are given."""
    forwards = "".join(event.id for event in in_sequence(events))
    assert forwards == "".join(event.id for event in in_sequence(reversed(events)))
    return forwards


def test_events_of_one_source_follow_by_place_whatever_their_times_and_ids_say() -> None:
    assert ids(Event("b", position("t:0:1"), 9), Event("a", position("t:0:2"), 1)) == "ba"


def test_events_with_a_sequence_follow_by_sequence_whatever_their_places_say() -> None:
    several = (
        Event("a", position("t:0:5", 1), 9),
        Event("b", position("t:0:4", 2), 8),
        Event("c", position("t:0:3", 3), 7),
    )
    assert ids(*several) == "abc"
    assert ids(*several, Event("x", position("t:0:1"))) == "xabc"


def test_events_of_several_sources_follow_by_time() -> None:
    ours = (Event("b", position("t:0:1"), 3), Event("a", position("t:0:2"), 1))
    theirs = Event("x", position("t:0:9"), 2, "/bank")
    assert ids(*ours, theirs) == "xba"


def test_events_of_an_old_partition_come_before_those_of_the_same_moment_in_a_new_one() -> None:
    assert ids(Event("b", position("t:0:9")), Event("a", position("t:2:0"))) == "ba"


def test_events_without_a_place_follow_by_time_and_id() -> None:
    assert ids(Event("c", second=1), Event("b", second=2), Event("a", second=2)) == "cab"


@given(st.lists(st.tuples(positions, st.integers(0, 3), st.sampled_from(["/shop", "/bank"])), max_size=12))
def test_nothing_is_lost_and_every_partition_and_sequence_is_kept(
    values: list[tuple[Position, int, str]],
) -> None:
    events = [Event(chr(65 + number), *each) for number, each in enumerate(values)]
    result = in_sequence(events)
    assert sorted(result, key=lambda event: event.id) == events
    assert result == in_sequence(reversed(events))
    for source in ("/shop", "/bank"):
        own = [event for event in result if event.source == source]
        numbers = [event.position.sequence for event in own if event.position.sequence is not None]
        assert numbers == sorted(numbers)
        unnumbered = [each.position.place for each in own if each.position.sequence is None]
        for partition in {(place.topic_id, place.partition) for place in unnumbered if place}:
            offsets = [
                place.offset
                for place in unnumbered
                if place and (place.topic_id, place.partition) == partition
            ]
            assert offsets == sorted(offsets)
