"""Track's work: read the orders, decide, write, announce; many orders in one batch."""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orderflow import logs
from orderflow.errors import ConflictError, TransientError
from orderflow.messaging import topics
from orderflow.messaging.batching import Batcher
from orderflow.messaging.deadline import EVENT_SECONDS
from orderflow.track import decision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Protocol

    from orderflow.errors import PoisonError
    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.messaging.handled_places import HandledPlaces
    from orderflow.messaging.publisher import Publisher
    from orderflow.track.decision import Arrival, Plan, Snapshot

    class Store(Protocol):
        """orderflow.track.store.OrderStore implements it and says more."""

        async def read(self, arrivals: Sequence[Arrival]) -> list[Snapshot]: ...
        async def read_waiting(self, order_ids: Sequence[str]) -> dict[str, tuple[Arrival, ...]]: ...
        async def write(self, plans: Sequence[Plan]) -> list[int]: ...
        def expired(self, limit: int) -> AbstractAsyncContextManager[list[CloudEvent]]: ...
        async def remove_unplaced(self, limit: int) -> int: ...


log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
SWEEP_SECONDS: Final = 10.0
MAX_SWEPT: Final = 500


class _Item:
    """One arrival in a batch, and its outcome."""

    __slots__ = ("arrival", "outcome", "poison")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.outcome = ""
        self.poison: PoisonError | None = None


class Tracker:
    """Handles the events of the events topic.

    An event is done when its rows are committed and its changes are announced. If a delivery only commits, the next
    delivery finds the rows and announces again. Parked events are in their topic before the ledger says `parked`.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        places: HandledPlaces,
        revision: str,
        *,
        seconds: float = EVENT_SECONDS,
    ) -> None:
        """seconds is the time limit of a batch."""
        self._store = store
        self._publisher = publisher
        self._places = places
        self._revision = revision
        self._batcher = Batcher(self._run, lambda item: item.arrival.order_id, seconds=seconds)
        self._swept_at = time.monotonic()
        self._sweeping: asyncio.Task[None] | None = None

    async def handle(self, event: CloudEvent) -> str:
        """Returns the ledger's outcome, or `duplicate`.

        Raises PoisonError for an event that the lifecycle does not have, TransientError for trouble that time cures.
        """
        item = _Item(decision.read(event))
        await self._batcher.submit(item)
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            # The sweep gets a context of its own, so that its log lines do not name this event.
            self._sweeping = asyncio.create_task(self._sweep_quietly(), context=Context())
        if item.poison is not None:
            raise item.poison
        return item.outcome

    async def _sweep_quietly(self) -> None:
        try:
            await self.sweep()
        except (TransientError, ConflictError) as error:
            log.warning("sweep put off", extra={"cause": str(error)})
        except Exception as error:  # noqa: BLE001 - asyncio would log its text and so the data
            log.error("sweep failed", extra={"error": type(error).__name__, "where": logs.location(error)})  # noqa: TRY400

    async def sweep(self) -> int:
        """Parks the events that have waited too long, MAX_SWEPT at most; returns how many."""
        async with self._store.expired(MAX_SWEPT) as events:
            parked = [decision.expired(event, self._revision) for event in events]
            await self._publisher.publish(topics.PARKED, parked)
        await self._store.remove_unplaced(MAX_SWEPT)
        return len(parked)

    async def _run(self, items: Sequence[_Item]) -> None:
        arrivals = [item.arrival for item in items]
        for attempt in range(1, MAX_ATTEMPTS + 1):
            snapshots, plans = await plan_all(self._store, arrivals, self._revision)
            # Before the commit: a waiting event left its topic long ago, and once its row is gone, nothing could
            # park it again.
            await self._publisher.publish(topics.PARKED, [event for plan in plans for event in plan.parked])
            writing = [plan for plan in plans if plan.writes]
            try:
                serials = await self._store.write(writing) if writing else []
                break
            except ConflictError as error:
                if len(arrivals) > 1:
                    raise
                if attempt == MAX_ATTEMPTS:
                    raise TransientError("others keep changing this order") from error
        await self._publisher.publish(topics.STATUS, [event for plan in plans for event in plan.announced])
        self._places.add_announced(serials + _repeated(plans, snapshots))
        for item, plan in zip(items, plans, strict=True):
            item.outcome, item.poison = plan.outcome, plan.poison


async def plan_all(
    store: Store, arrivals: Sequence[Arrival], revision: str
) -> tuple[list[Snapshot], list[Plan]]:
    """One snapshot and one plan for each arrival. No two arrivals are of one order.

    The events that wait for an order are read only where the arrival changes the order.
    """
    snapshots = await store.read(arrivals)
    plans = [
        decision.plan(arrival, snapshot, revision)
        for arrival, snapshot in zip(arrivals, snapshots, strict=True)
    ]
    followed = [n for n, plan in enumerate(plans) if plan.changes and snapshots[n].waits]
    if followed:
        waiting = await store.read_waiting([arrivals[n].order_id for n in followed])
        for n in followed:
            snapshots[n] = replace(snapshots[n], waiting=waiting.get(arrivals[n].order_id, ()))
            plans[n] = decision.plan(arrivals[n], snapshots[n], revision)
    return snapshots, plans


def _repeated(plans: Sequence[Plan], snapshots: Sequence[Snapshot]) -> list[int]:
    """The serials of the changes that duplicates announced again."""
    return [
        change.serial
        for plan, snapshot in zip(plans, snapshots, strict=True)
        if not plan.writes
        for change in snapshot.changes
        if change.serial is not None
    ]
