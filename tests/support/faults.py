"""A worker of track that dies or fails where it is told to, around the real store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orderflow.errors import TransientError
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track.decision import Arrival, Plan, Snapshot
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore
from support.places import places

POINTS = ("before read", "after read", "before commit", "after commit", "parking", "announcing")


class DiedError(Exception):
    """The process is no more. Nothing that it was about to do is done."""


@dataclass
class Fault:
    """Strikes once at its point; one that is deadly strikes at every point from then on. let_through is how many
    events of the batch reach the topic before."""

    point: str = ""
    deadly: bool = False
    let_through: int = 0
    struck: bool = False

    def strike(self, point: str) -> None:
        if self.struck and self.deadly:
            raise DiedError
        if point == self.point and not self.struck:
            self.struck = True
            raise DiedError if self.deadly else TransientError("told to fail")


class Meeting:
    """Lets those who come go on when all have come, or have left."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._come = 0
        self._all = asyncio.Event()

    async def join(self) -> None:
        self._come += 1
        self._look()
        await self._all.wait()

    def leave(self) -> None:
        self._expected -= 1
        self._look()

    def _look(self) -> None:
        if self._come >= self._expected:
            self._all.set()


class Broker:
    """Topics as lists."""

    def __init__(self) -> None:
        self.topics: dict[str, list[CloudEvent]] = {}


class Worker:
    """One process of track: its tracker, with the real store and the broker behind a fault."""

    def __init__(self, store: OrderStore, broker: Broker) -> None:
        self._store = store
        self._broker = broker
        self.fault = Fault()
        self._meeting: Meeting | None = None
        self.given_up: list[tuple[str, str]] = []
        """The origins of what it parked for having waited too long, and committed."""
        self.tracker = Tracker(self, self, places(), "track-00001")

    @property
    def dead(self) -> bool:
        return self.fault.struck and self.fault.deadly

    def prepare(self, fault: Fault, meeting: Meeting | None) -> None:
        """meeting is where the next read waits for that of other workers, so that all decide on the same rows."""
        self.fault = fault
        self._meeting = meeting
        self.given_up.clear()

    async def read(self, arrivals: Sequence[Arrival]) -> list[Snapshot]:
        self.fault.strike("before read")
        stored = await self._store.read(arrivals)
        await self._meet()
        self.fault.strike("after read")
        return stored

    async def read_waiting(self, order_ids: Sequence[str]) -> dict[str, tuple[Arrival, ...]]:
        return await self._store.read_waiting(order_ids)

    async def write(self, plans: Sequence[Plan]) -> list[int]:
        self.fault.strike("before commit")
        serials = await self._store.write(plans)
        self.fault.strike("after commit")
        return serials

    async def remove_unplaced(self, most: int) -> int:
        return await self._store.remove_unplaced(most)

    @asynccontextmanager
    async def expired(self, most: int) -> AsyncIterator[list[CloudEvent]]:
        self.fault.strike("before read")
        async with self._store.expired(most) as events:
            await self._meet()
            yield events
            self.fault.strike("before commit")
        self.given_up += [(each.extensions["originsource"], each.extensions["originid"]) for each in events]

    async def _meet(self) -> None:
        meeting, self._meeting = self._meeting, None
        if meeting:
            await meeting.join()

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        log = self._broker.topics.setdefault(topic, [])
        if events and self.fault.point in {"parking", "announcing"} and not self.fault.struck:
            log += events[: self.fault.let_through] if _point(topic) == self.fault.point else ()
        if events:
            self.fault.strike(_point(topic))
        log += events


def _point(topic: str) -> str:
    return "parking" if "parked" in topic else "announcing"
