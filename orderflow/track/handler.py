"""Track's work: read what is known, decide, write, announce; many orders in one go."""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import Context
from typing import TYPE_CHECKING, Final

from orderflow import logs
from orderflow.errors import ConflictError, UnavailableError
from orderflow.messaging import topics
from orderflow.messaging.batching import Coalescer
from orderflow.track import decision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Protocol

    from orderflow.messaging.cloudevent import Envelope
    from orderflow.messaging.publisher import Publisher
    from orderflow.track.decision import Arrival, Plan, Snapshot

    class Store(Protocol):
        """The ledger and what hangs on it; orderflow.adapters.postgres.pool.OrderStore says more."""

        async def read(self, arrivals: Sequence[Arrival]) -> list[Snapshot]: ...
        async def write(self, plans: Sequence[Plan]) -> None: ...
        def expired(self, most: int) -> AbstractAsyncContextManager[list[Envelope]]: ...


log = logging.getLogger(__name__)

ATTEMPTS: Final = 3
SWEEP_SECONDS: Final = 10.0
SWEEP_MOST: Final = 500


class _Case:
    """One arrival in a batch, and what became of it."""

    __slots__ = ("arrival", "outcome")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.outcome = ""


class Tracker:
    """Takes events of the events topic. An event is done when its rows are committed and what it changed is
    announced; if only the first came about, the next delivery finds the rows and announces again. What is
    parked is in its topic before the rows say so."""

    def __init__(self, store: Store, publisher: Publisher, revision: str) -> None:
        self._store = store
        self._publisher = publisher
        self._revision = revision
        self._coalescer = Coalescer(self._run, lambda case: case.arrival.order_id)
        self._swept = time.monotonic()
        self._sweeping: asyncio.Task[None] | None = None

    async def handle(self, event: Envelope) -> str:
        """Returns the ledger's outcome, or `duplicate`. Raises PoisonError for an event that is none of the
        lifecycle's, UnavailableError for trouble."""
        case = _Case(decision.arrival(event))
        await self._coalescer.submit(case)
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            # What is swept has nothing to do with the event that happened to come: no log may name it.
            self._sweeping = asyncio.create_task(self._sweep_quietly(), context=Context())
        return case.outcome

    async def _sweep_quietly(self) -> None:
        try:
            await self.sweep()
        except (UnavailableError, ConflictError) as error:
            log.warning("sweep put off", extra={"cause": str(error)})
        except Exception as error:  # noqa: BLE001 - asyncio would log its text and so the data
            log.error("sweep failed", extra={"error": type(error).__name__, "where": logs.location(error)})  # noqa: TRY400

    async def sweep(self) -> int:
        """Parks what waited too long; returns how many."""
        async with self._store.expired(SWEEP_MOST) as events:
            parked = [decision.expired(event, self._revision) for event in events]
            await self._publisher.publish(topics.PARKED, parked)
            return len(parked)

    async def _run(self, cases: Sequence[_Case]) -> None:
        arrivals = [case.arrival for case in cases]
        for attempt in range(1, ATTEMPTS + 1):
            snapshots = await self._store.read(arrivals)
            plans = [
                decision.plan(now, known, self._revision)
                for now, known in zip(arrivals, snapshots, strict=True)
            ]
            # Before the ledger says so: an event that waited left its stage long ago, and once its row is
            # gone nobody could park it again.
            await self._publisher.publish(topics.PARKED, [event for plan in plans for event in plan.parked])
            writing = [plan for plan in plans if plan.writes]
            try:
                if writing:
                    await self._store.write(writing)
                break
            except ConflictError as error:
                if len(arrivals) > 1:
                    raise
                if attempt == ATTEMPTS:
                    raise UnavailableError("others keep changing this order") from error
        await self._publisher.publish(topics.STATUS, [event for plan in plans for event in plan.announced])
        for case, plan in zip(cases, plans, strict=True):
            case.outcome = plan.outcome
