"""Runs what is in flight at one moment as one batch. No item waits for a batch to fill."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Generic, TypeVar

from orderflow.errors import TransientError
from orderflow.messaging.deadline import EVENT_SECONDS, time_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

T = TypeVar("T")


class Batcher(Generic[T]):
    """Runs items in batches: at most `parallel` batches at a time, at most `max_items` items in each.

    Two items of one key are never in flight together, so the items of one key take effect in the order of submission.
    A batch that fails runs again item by item, so that one bad item cannot fail its neighbours. A batch that fails with
    TransientError does not run again: that trouble concerns every item. A batch that is not done within its time limit
    fails with TransientError too, and frees its keys.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[None]],
        key: Callable[[T], Hashable],
        *,
        seconds: float = EVENT_SECONDS,
        max_items: int = 200,
        max_pending: int = 2000,
        parallel: int = 2,
    ) -> None:
        """seconds is the time limit of a batch, max_pending how many items may wait."""
        self._run = run
        self._key = key
        self._seconds = seconds
        self._max_items = max_items
        self._max_pending = max_pending
        self._parallel = parallel
        self._pending: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._busy: set[Hashable] = set()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> None:
        """Returns when the item's effect is done; raises the error that its handling raised, and TransientError where
        too many items wait. An item whose caller has been cancelled while it waits is left out."""
        if len(self._pending) >= self._max_pending:
            raise TransientError("too many events wait")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if self._running < self._parallel:
            self._running += 1
            # A batch belongs to many callers, so its log lines must not name the caller that started it.
            task = asyncio.create_task(self._drain(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await future

    async def _drain(self) -> None:
        try:
            while batch := self._next_batch():
                keys = {self._key(item) for item, _ in batch}
                try:
                    await self._settle(batch)
                finally:
                    self._busy -= keys
        finally:
            # Not in the task's callback: an item that is submitted before the callback runs would start no task.
            self._running -= 1

    def _next_batch(self) -> list[tuple[T, asyncio.Future[None]]]:
        batch: list[tuple[T, asyncio.Future[None]]] = []
        skipped: deque[tuple[T, asyncio.Future[None]]] = deque()
        skipped_keys: set[Hashable] = set()
        while self._pending and len(batch) < self._max_items:
            entry = self._pending.popleft()
            if entry[1].done():
                continue
            key = self._key(entry[0])
            if key in self._busy or key in skipped_keys:
                skipped_keys.add(key)
                skipped.append(entry)
            else:
                self._busy.add(key)
                batch.append(entry)
        self._pending.extendleft(reversed(skipped))
        return batch

    async def _settle(self, batch: list[tuple[T, asyncio.Future[None]]]) -> None:
        try:
            async with time_limit(self._seconds, "the batch"):
                await self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - submit() raises it
            if len(batch) > 1 and not isinstance(error, TransientError):
                for entry in batch:
                    await self._settle([entry])
                return
            _fail(batch, error)
            return
        for _, future in batch:
            if not future.done():
                future.set_result(None)


def _fail(batch: Sequence[tuple[T, asyncio.Future[None]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
