"""The places that a stage has handled, collected and written to the database in batches.

A place is added after the effects of its record are durable. What is not written when a process dies is not lost: the
audit finds a gap there, reads the record and finds its effects. A database that was restored, or that a replica took
over, may lack effects of the last moment: then the places of that moment are not written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections import defaultdict
from contextvars import Context
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Final, Protocol

from orderflow.errors import ConflictError, TransientError
from orderflow.messaging import topics
from orderflow.messaging.parked_event import TOPIC_OF
from orderflow.messaging.places import INBOX_PLACE, Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
    from types import FrameType

    from orderflow.messaging.cloudevent import CloudEvent

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 1.0
MAX_PENDING: Final = 200_000
"""Of places that wait while the database is away. Those beyond are left to the audit."""
HISTORY: Final = "history"
"""Stands for a topic and for its id: the serials of the history's rows are accounted for as offsets are."""


@dataclass(frozen=True, slots=True, order=True)
class Log:
    """One partition of a topic, as the stage sees it that reads the topic."""

    stage: str
    topic: str
    topic_id: str
    partition: int


class Store(Protocol):
    """orderflow.adapters.postgres.handled_store implements it."""

    async def watch(self) -> None:
        """Remembers the database as it is now, so that add() notices another one. Raises TransientError."""

    async def add(self, ranges: Sequence[tuple[Log, Sequence[tuple[int, int]]]]) -> None:
        """ranges are pairs of a first offset and the offset after the last. Writes nothing where the database is not
        the one of before: it may lack the effects. Raises TransientError."""


def ranges_of(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """The offsets as ranges: pairs of a first offset and the offset after the last."""
    ranges: list[tuple[int, int]] = []
    for offset in sorted(offsets):
        if ranges and offset <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], offset + 1))
        else:
            ranges.append((offset, offset + 1))
    return ranges


class HandledPlaces:
    """Writes what was added once a second, while something is added, and at SIGTERM."""

    def __init__(self, store: Store, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._store = store
        self._flush_seconds = flush_seconds
        self._pending: dict[Log, set[int]] = defaultdict(set)
        self._count = 0
        self._flushing: asyncio.Task[None] | None = None
        self._catches_signals = False

    def add(self, stage: str, topic: str, place: Place | None) -> None:
        """stage is the one that reads the topic. A place that is not known is left to the audit."""
        if place is not None:
            self._add(Log(stage, topic, place.topic_id, place.partition), (place.offset,))

    def add_announced(self, serials: Collection[int]) -> None:
        """serials are those of changes whose status events Kafka has confirmed."""
        if serials:
            self._add(Log("track", HISTORY, HISTORY, 0), serials)

    def _add(self, place_log: Log, offsets: Collection[int]) -> None:
        if self._count >= MAX_PENDING:
            return
        self._pending[place_log].update(offsets)
        self._count += len(offsets)
        if self._flushing is None or self._flushing.done():
            # A context of its own keeps this event out of the flush's log lines.
            self._flushing = asyncio.create_task(self._flush_soon(), context=Context())
            self._catch_signals()

    async def _flush_soon(self) -> None:
        with contextlib.suppress(TransientError, ConflictError):
            await self._store.watch()
        while self._pending:
            await asyncio.sleep(self._flush_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Writes what is pending. Where the database is away, it stays pending."""
        pending, self._pending, self._count = self._pending, defaultdict(set), 0
        if not pending:
            return
        try:
            # In one sequence everywhere, so that two processes that write the same rows do not deadlock.
            await self._store.add([(each, ranges_of(offsets)) for each, offsets in sorted(pending.items())])
        except (TransientError, ConflictError) as error:
            log.warning("handled places not written yet", extra={"cause": str(error)})
            for each, offsets in pending.items():
                self._pending[each] |= offsets
                self._count += len(offsets)

    def _catch_signals(self) -> None:
        """At SIGTERM no second is left to wait. The server's own handler then ends the process."""
        if self._catches_signals or threading.current_thread() is not threading.main_thread():
            return
        self._catches_signals = True
        previous = signal.getsignal(signal.SIGTERM)
        if not callable(previous):
            return
        loop = asyncio.get_running_loop()

        def flush_and_go_on(number: int, frame: FrameType | None) -> None:
            self._flush_seconds = 0.0
            loop.call_soon_threadsafe(lambda: loop.create_task(self.flush(), context=Context()))
            previous(number, frame)

        signal.signal(signal.SIGTERM, flush_and_go_on)


def records_places(
    handle: Callable[[CloudEvent], Awaitable[str]], places: HandledPlaces, stage: str
) -> Callable[[CloudEvent], Awaitable[str]]:
    """handle, which adds an event's place once it is handled, and the place of the inbox record it was made of."""
    topic = TOPIC_OF[stage]

    @wraps(handle)
    async def handle_and_record(event: CloudEvent) -> str:
        outcome = await handle(event)
        places.add(stage, topic, event.place)
        if stage == "track":
            places.add("validate", topics.INBOX, Place.parse(event.extensions.get(INBOX_PLACE, "")))
        return outcome

    return handle_and_record
