"""What is in flight at one moment goes out as one batch. Nothing waits for a batch to fill."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Generic, TypeVar

from orderflow.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

T = TypeVar("T")


class Coalescer(Generic[T]):
    """Runs items in batches: at most `parallel` at a time, at most `most` items each, and never two items of
    one key in flight together, so that what one key submits takes effect in the order of submission.

    A batch that fails is tried again item by item, so that one bad item cannot fail its neighbours; but not
    where the trouble is everyone's (UnavailableError).
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[None]],
        key: Callable[[T], Hashable],
        *,
        most: int = 200,
        parallel: int = 2,
    ) -> None:
        self._run = run
        self._key = key
        self._most = most
        self._parallel = parallel
        self._pending: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._busy: set[Hashable] = set()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> None:
        """Returns when the item's effect is done; raises what its handling raised."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if self._running < self._parallel:
            self._running += 1
            # A batch is of many callers: what it logs must not name the one that happened to begin it.
            task = asyncio.create_task(self._drain(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await future

    async def _drain(self) -> None:
        try:
            while batch := self._take():
                keys = {self._key(item) for item, _ in batch}
                try:
                    await self._settle(batch)
                finally:
                    self._busy -= keys
        finally:
            # Not in the task's callback: what is submitted before that runs would find no place and wait on.
            self._running -= 1

    def _take(self) -> list[tuple[T, asyncio.Future[None]]]:
        batch: list[tuple[T, asyncio.Future[None]]] = []
        left: deque[tuple[T, asyncio.Future[None]]] = deque()
        passed: set[Hashable] = set()
        while self._pending and len(batch) < self._most:
            entry = self._pending.popleft()
            key = self._key(entry[0])
            if key in self._busy or key in passed:
                passed.add(key)
                left.append(entry)
            else:
                self._busy.add(key)
                batch.append(entry)
        self._pending.extendleft(reversed(left))
        return batch

    async def _settle(self, batch: list[tuple[T, asyncio.Future[None]]]) -> None:
        try:
            await self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever submitted gets it
            if len(batch) > 1 and not isinstance(error, UnavailableError):
                for entry in batch:
                    await self._settle([entry])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for _, future in batch:
            if not future.done():
                future.set_result(None)
