"""The event loop's side of a member: a queue per partition, and the delivery of what is in it.

Ordered: one record of a partition is in flight at a time, its retries and its dead letter included. Unordered: all
records of a poll are in flight at once, and there is no poll while `max_poll_records` or more are. So at most twice
that number less one are in flight (99 at 50).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from orderflow_sandbox.delivery.dispatch import Dispatcher, Outcome, Place
from orderflow_sandbox.delivery.offsets import Offsets

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from orderflow_sandbox.delivery.events import Event
    from orderflow_sandbox.delivery.subscription import Subscription

_log = logging.getLogger(__name__)

_ROOM_SECONDS: Final = 1.0


class PartitionQueue:
    """One assigned partition, from assignment to revocation. `events` holds offsets and events; None is unreadable."""

    __slots__ = ("assigned", "busy", "events", "offsets", "partition", "paused", "stopped", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.offsets = Offsets()
        self.events: deque[tuple[int, Event | None]] = deque()
        self.assigned = True
        self.busy = False
        # librdkafka may keep a pause over a reassignment, so the consumer resumes the partition once.
        self.paused = True
        self.stopped = False


class Deliveries:
    """Everything that a member has in flight."""

    def __init__(self, dispatcher: Dispatcher, subscription: Subscription, source: str) -> None:
        self.in_flight = 0
        self.draining = False
        self._dispatcher = dispatcher
        self._subscription = subscription
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        # Unordered: records that the consumer has handed over and that are not done.
        self._pending = 0
        self._pending_changed = threading.Condition()

    # For the consumer's thread.

    def hand_over(self, batch: list[tuple[PartitionQueue, int, Event | None]]) -> None:
        """Each entry is a queue, an offset and the event at that offset."""
        if not self._subscription.ordered:
            with self._pending_changed:
                self._pending += len(batch)
        self._loop.call_soon_threadsafe(self._accept, batch)

    def wait_for_room(self) -> bool:
        """Unordered: waits until another poll is allowed, but not so long that the member would leave its group."""
        if self._subscription.ordered:
            return True
        limit = self._subscription.max_poll_records
        with self._pending_changed:
            return self._pending_changed.wait_for(
                lambda: self._pending < limit or self.draining, timeout=_ROOM_SECONDS
            )

    # For the event loop.

    async def drain(self, grace: float) -> None:
        """Starts nothing new, and waits up to `grace` seconds for what is in flight."""
        self.draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _accept(self, batch: list[tuple[PartitionQueue, int, Event | None]]) -> None:
        for queue, offset, event in batch:
            if not queue.assigned or queue.stopped or self.draining:
                self._one_less()
                continue
            queue.offsets.received(offset)
            if self._subscription.ordered:
                queue.events.append((offset, event))
                if not queue.busy:
                    queue.busy = True
                    self._spawn(self._in_order(queue))
            else:
                self._spawn(self._deliver(queue, offset, event))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours. As in the real data plane, the partition stands still and skips nothing.
            _log.error("delivery broke down", exc_info=error, extra={"source": self._source})

    async def _in_order(self, queue: PartitionQueue) -> None:
        events = queue.events
        while events and queue.assigned and not queue.stopped and not self.draining:
            offset, event = events.popleft()
            await self._deliver(queue, offset, event)
        queue.busy = False
        if not queue.assigned or queue.stopped:
            events.clear()

    async def _deliver(self, queue: PartitionQueue, offset: int, event: Event | None) -> None:
        self.in_flight += 1
        try:
            place = Place(queue.topic, queue.partition, offset)
            outcome = await self._dispatcher.dispatch(place, event)
        finally:
            self.in_flight -= 1
            self._one_less()
        if outcome is Outcome.STOPPED:
            queue.stopped = True
        elif queue.assigned:
            queue.offsets.done(offset)

    def _one_less(self) -> None:
        if not self._subscription.ordered:
            with self._pending_changed:
                self._pending -= 1
                if self._pending < self._subscription.max_poll_records:
                    self._pending_changed.notify()
