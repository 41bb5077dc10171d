"""Handled places are written in batches, and none is forgotten while the database is away."""

import asyncio
import itertools
import os
import signal
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from support.places import PlacesStore

from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.handled_places import (
    HISTORY,
    MAX_PENDING,
    HandledPlaces,
    Log,
    ranges_of,
    records_places,
)
from orderflow.messaging.places import Place

LOG = Log("track", topics.EVENTS, "topic", 3)


@given(st.sets(st.integers(0, 60)))
def test_ranges_have_exactly_the_offsets_and_touch_nowhere(offsets: set[int]) -> None:
    ranges = ranges_of(offsets)
    assert {offset for first, end in ranges for offset in range(first, end)} == offsets
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))


@given(st.text(max_size=30))
def test_whatever_text_is_no_place_and_a_place_is_its_own_text(text: str) -> None:
    place = Place.parse(text)
    assert place is None or Place.parse(str(place)) == place


@given(st.integers(0, 10**6), st.integers(0, 2**53))
def test_a_place_passes_as_an_extension(partition: int, offset: int) -> None:
    place = Place("P9xcd_oXQXuRkn1wzov6Wg", partition, offset)
    assert Place.parse(str(place)) == place


class AwayOnce(PlacesStore):
    """A store whose database is away at the first write."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0

    async def add(self, ranges: Sequence[tuple[Log, Sequence[tuple[int, int]]]]) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise TransientError("away")
        await super().add(ranges)


async def test_what_could_not_be_written_is_written_with_the_next_flush() -> None:
    store = AwayOnce()
    places = HandledPlaces(store, flush_seconds=0.001)
    for offset in (1, 2, 5):
        places.add("track", topics.EVENTS, Place("topic", 3, offset))
    while not store.ranges:  # noqa: ASYNC110 - the store has no event of its own
        await asyncio.sleep(0.001)
    assert store.ranges == {LOG: [(1, 3), (5, 6)]}


async def test_places_beyond_the_limit_are_left_to_the_audit() -> None:
    store = PlacesStore()
    places = HandledPlaces(store, flush_seconds=60)
    places.add_announced(range(MAX_PENDING))
    places.add("track", topics.EVENTS, Place("topic", 3, 7))
    await places.flush()
    assert store.ranges == {Log("track", HISTORY, HISTORY, 0): [(0, MAX_PENDING)]}


async def test_at_sigterm_what_is_pending_is_written_and_the_servers_own_handler_runs() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(ended.set))
    try:
        store = PlacesStore()
        places = HandledPlaces(store, flush_seconds=60)
        places.add("track", topics.EVENTS, Place("topic", 3, 7))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(ended.wait(), 5)
        while not store.ranges:  # noqa: ASYNC110 - the store has no event of its own
            await asyncio.sleep(0.001)
        assert store.ranges == {LOG: [(7, 8)]}
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_place_is_recorded_only_after_the_event_was_handled_and_track_records_the_inbox_place_with_it() -> (
    None
):
    store = PlacesStore()
    places = HandledPlaces(store, flush_seconds=60)
    fails = True

    async def handle(_event: CloudEvent) -> str:
        if fails:
            raise TransientError("not now")
        return "applied"

    event = CloudEvent("t", "/s", "1", extensions={"inboxplace": "inbox:3:9"}, place=Place("topic", 3, 4))
    recording = records_places(handle, places, "track")
    for _ in range(2):
        try:
            await recording(event)
        except TransientError:
            await places.flush()
            assert store.ranges == {}
        fails = False
    await places.flush()
    assert store.ranges == {LOG: [(4, 5)], Log("validate", topics.INBOX, "inbox", 3): [(9, 10)]}
