"""In which sequence track reads, parks, writes and announces; what it does when somebody else was quicker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from support.events import event, paid, placed
from support.places import places

from orderflow.domain.rules import Rules
from orderflow.errors import ConflictError, PoisonError, TransientError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision
from orderflow.track.decision import Arrival, Plan, Snapshot
from orderflow.track.handler import Tracker
from orderflow.validate.handler import validate


def validated(sent: CloudEvent) -> CloudEvent:
    return validate(sent, Rules())


class Rows:
    """A store that knows one snapshot for all, and fails to write as often as told."""

    def __init__(self, calls: list[str], known: Snapshot | None = None) -> None:
        self.calls = calls
        self.known = known or Snapshot()
        self.failures: list[Exception] = []
        self.early: list[CloudEvent] = []

    async def read(self, arrivals: Sequence[Arrival]) -> list[Snapshot]:
        self.calls.append(f"read {len(arrivals)}")
        return [replace(self.known, waiting=(), waits=bool(self.known.waiting))] * len(arrivals)

    async def read_waiting(self, order_ids: Sequence[str]) -> dict[str, tuple[Arrival, ...]]:
        self.calls.append(f"read waiting {len(order_ids)}")
        return dict.fromkeys(order_ids, self.known.waiting)

    async def write(self, plans: Sequence[Plan]) -> list[int]:
        self.calls.append(f"write {len(plans)}")
        if self.failures:
            raise self.failures.pop(0)
        return []

    async def remove_unplaced(self, most: int) -> int:
        self.calls.append("removed")
        return 0

    @asynccontextmanager
    async def expired(self, most: int) -> AsyncIterator[list[CloudEvent]]:
        self.calls.append("locked")
        yield self.early[:most]
        self.calls.append("deleted")


class Topics:
    def __init__(self, calls: list[str], refuses: str = "") -> None:
        self.calls = calls
        self.refuses = refuses

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        if topic == self.refuses:
            raise TransientError("away")
        self.calls += [f"{topic} {event.subject}" for event in events]


async def test_what_is_parked_is_in_its_topic_before_the_rows_say_so_and_changes_are_announced_after() -> (
    None
):
    calls: list[str] = []
    never = decision.read(validated(paid("o-1", amount=1)))
    rows = Rows(calls, Snapshot(lock=1, waiting=(never,)))
    await Tracker(rows, Topics(calls), places(), "r").handle(validated(placed("o-1")))
    assert calls == ["read 1", "read waiting 1", f"{topics.PARKED} o-1", "write 1", f"{topics.STATUS} o-1"]


async def test_where_nothing_can_be_parked_nothing_is_written() -> None:
    calls: list[str] = []
    never = decision.read(validated(paid("o-1", amount=1)))
    rows = Rows(calls, Snapshot(lock=1, waiting=(never,)))
    with pytest.raises(TransientError):
        await Tracker(rows, Topics(calls, refuses=topics.PARKED), places(), "r").handle(
            validated(placed("o-1"))
        )
    assert calls == ["read 1", "read waiting 1"]


async def test_what_waits_for_an_order_is_not_read_for_an_event_that_waits_too() -> None:
    calls: list[str] = []
    early = decision.read(validated(paid("o-1")))
    rows = Rows(calls, Snapshot(lock=1, waiting=(early,)))
    assert (
        await Tracker(rows, Topics(calls), places(), "r").handle(validated(event("packed", "o-1")))
        == "waiting"
    )
    assert calls == ["read 1", "write 1"]


async def test_where_too_many_wait_for_an_order_a_further_event_is_poison_and_its_neighbours_are_not() -> (
    None
):
    calls: list[str] = []
    rows = Rows(calls, Snapshot(lock=1, may_wait=False))
    tracker = Tracker(rows, Topics(calls), places(), "r")
    further, order = await asyncio.gather(
        tracker.handle(validated(event("packed", "o-1"))),
        tracker.handle(validated(placed("o-2"))),
        return_exceptions=True,
    )
    assert isinstance(further, PoisonError)
    assert further.reasons[0].code == "too_many_wait"
    assert order == "applied"
    assert "write 1" in calls
    assert "write 2" not in calls


async def test_what_somebody_else_changed_is_read_again() -> None:
    calls: list[str] = []
    rows = Rows(calls)
    rows.failures = [ConflictError("quicker"), ConflictError("quicker")]
    await Tracker(rows, Topics(calls), places(), "r").handle(validated(placed("o-1")))
    assert calls == ["read 1", "write 1"] * 3 + [f"{topics.STATUS} o-1"]


async def test_an_order_that_others_keep_changing_comes_again_later() -> None:
    calls: list[str] = []
    rows = Rows(calls)
    rows.failures = [ConflictError("quicker")] * 3
    with pytest.raises(TransientError):
        await Tracker(rows, Topics(calls), places(), "r").handle(validated(placed("o-1")))
    assert f"{topics.STATUS} o-1" not in calls


async def test_an_unannounced_change_is_not_done() -> None:
    calls: list[str] = []
    with pytest.raises(TransientError):
        await Tracker(Rows(calls), Topics(calls, refuses=topics.STATUS), places(), "r").handle(
            validated(placed("o-1"))
        )
    assert calls == ["read 1", "write 1"]


async def test_the_sweep_parks_before_it_deletes_and_deletes_nothing_that_it_could_not_park() -> None:
    calls: list[str] = []
    rows = Rows(calls)
    rows.early = [validated(event("packed", "o-1"))]
    assert await Tracker(rows, Topics(calls), places(), "r").sweep() == 1
    assert calls == ["locked", f"{topics.PARKED} o-1", "deleted", "removed"]
    calls.clear()
    with pytest.raises(TransientError):
        await Tracker(rows, Topics(calls, refuses=topics.PARKED), places(), "r").sweep()
    assert calls == ["locked"]
