"""One member of a KafkaSource's consumer group: its Kafka consumer, and a lane per partition.

A thread of its own owns the consumer: it polls, pauses what has enough buffered, commits and goes
through rebalances. Events are sent on the event loop. So heartbeats and polls go on while a
partition waits out ten minutes of retries.

Ordered: one record of a partition in flight, its retries and dead letter included. Unordered: no
poll while max_poll_records or more are in flight, so at most twice that less one (99 at 50).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from orderflow_sandbox.delivery.dispatch import Dispatcher, Outcome, Place
from orderflow_sandbox.delivery.events import Event, Origin, Record, events_of_poll
from orderflow_sandbox.delivery.offsets import Offsets

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from orderflow_sandbox.delivery.events import Headers

_log = logging.getLogger(__name__)

COMMIT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1
# Per partition, in records: pausing throws away what librdkafka has fetched ahead, so seldom.
_PAUSE_ABOVE: Final = 1000
_RESUME_BELOW: Final = 250
_ROOM_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member reads. settings are librdkafka's, over the ones that KafkaSource fixes."""

    topics: list[str]
    group: str
    initial_offset: str
    ordered: bool
    max_poll_records: int
    settings: Mapping[str, Any]


class Lane:
    """One assigned partition, from assignment to revocation."""

    __slots__ = ("busy", "live", "offsets", "partition", "paused", "queue", "stopped", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.offsets = Offsets()
        self.queue: deque[tuple[int, Event | None]] = deque()
        self.live = True
        self.busy = False
        # librdkafka may remember a pause over reassignment: the first look at the lane resumes it.
        self.paused = True
        self.stopped = False


class Member:
    def __init__(
        self,
        subscription: Subscription,
        origin: Origin,
        dispatcher: Dispatcher,
        counts: Counter[str],
    ) -> None:
        self._subscription = subscription
        self._origin = origin
        self._dispatcher = dispatcher
        self._counts = counts
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        # Unordered: records handed to the loop or in flight, which decides about the next poll.
        self._pending = 0
        self._pending_changed = threading.Condition()
        self._holding = False
        self._draining = False
        self._drained = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._committed_at: float | None = None
        settings = {**_settings(subscription), "on_commit": self._after_commit}
        self._consumer = Consumer(settings, logger=_log)
        self._thread = threading.Thread(target=self._run, name=f"{origin.name}-consumer", daemon=True)

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when the consumer has closed; its exception is what made it fail."""
        return self._ended

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def committed_at(self) -> float | None:
        """Seconds since the epoch of the last commit."""
        return self._committed_at

    @property
    def lanes(self) -> list[Lane]:
        return list(self._lanes.values())

    def start(self) -> None:
        self._thread.start()

    async def close(self, grace: float) -> None:
        """Waits up to grace seconds for what is in flight, commits, leaves the group.

        What is still being retried then is not committed and comes again.
        """
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        self._drained.set()
        await asyncio.wait([self._ended])
        for task in self._tasks:
            task.cancel()

    # What follows runs in the consumer's thread.

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            self._consumer.subscribe(
                self._subscription.topics,
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._lost,
            )
            self._poll_until_drained()
        except Exception as error:  # noqa: BLE001 - the loop's side decides what to do about it
            failure = error
        finally:
            try:
                self._commit(list(self._lanes.values()), wait=True)
                self._consumer.close()
            except Exception as error:  # noqa: BLE001 - the same
                failure = failure or error
        self._loop.call_soon_threadsafe(self._end, failure)

    def _poll_until_drained(self) -> None:
        commit_due = time.monotonic() + COMMIT_SECONDS
        while not self._drained.is_set():
            self._hold_back()
            first = self._consumer.poll(_POLL_SECONDS)
            if first is not None:
                rest = self._subscription.max_poll_records - 1
                messages = [first, *self._consumer.consume(rest, 0)] if rest else [first]
                self._hand_over(messages)
            if time.monotonic() >= commit_due:
                self._commit(list(self._lanes.values()), wait=False)
                commit_due = time.monotonic() + COMMIT_SECONDS

    def _hold_back(self) -> None:
        """Pauses what has enough to do and resumes what has not."""
        pause: list[Lane] = []
        resume: list[Lane] = []
        if not self._subscription.ordered:
            self._wait_for_room()
        for lane in self._lanes.values():
            if self._draining or lane.stopped or self._holding or len(lane.queue) > _PAUSE_ABOVE:
                if not lane.paused:
                    pause.append(lane)
            elif lane.paused and len(lane.queue) < _RESUME_BELOW:
                resume.append(lane)
        if pause:
            self._consumer.pause(_partitions(pause))
        if resume:
            self._consumer.resume(_partitions(resume))
        for lane in pause:
            lane.paused = True
        for lane in resume:
            lane.paused = False

    def _wait_for_room(self) -> None:
        """Does without a poll while enough is in flight, but never so long as to leave the group."""
        enough = self._subscription.max_poll_records
        with self._pending_changed:
            room = self._pending_changed.wait_for(
                lambda: self._pending < enough or self._draining, timeout=_ROOM_SECONDS
            )
        self._holding = not room

    def _hand_over(self, messages: list[Message]) -> None:
        records: list[Record] = []
        lanes: list[Lane] = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._trouble(message)
                continue
            record = _record(message)
            lane = self._lanes.get((record.topic, record.partition))
            if lane is not None and not lane.stopped:
                records.append(record)
                lanes.append(lane)
        if not records or self._draining:
            return
        events = events_of_poll(records, self._origin)
        batch = [
            (lane, record.offset, event) for lane, record, event in zip(lanes, records, events, strict=True)
        ]
        if not self._subscription.ordered:
            with self._pending_changed:
                self._pending += len(batch)
        self._loop.call_soon_threadsafe(self._accept, batch)

    def _trouble(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        _log.warning("Kafka: %s", error.str(), extra={"source": self._origin.name})
        if error.fatal():
            raise KafkaException(error)

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for found in partitions:
            self._lanes[found.topic, found.partition] = Lane(found.topic, found.partition)
        self._log_partitions("assigned", partitions)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Commits what is done. What is in flight goes on, but no longer counts: it comes again."""
        lanes = self._gone(partitions)
        try:
            self._commit(lanes, wait=True)
        except KafkaException as error:
            _log.warning("commit at revocation failed: %s", error)
        self._log_partitions("revoked", partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._gone(partitions)
        self._log_partitions("lost", partitions)

    def _gone(self, partitions: list[TopicPartition]) -> list[Lane]:
        lanes = []
        for found in partitions:
            lane = self._lanes.pop((found.topic, found.partition), None)
            if lane is not None:
                lane.live = False
                lanes.append(lane)
        return lanes

    def _commit(self, lanes: list[Lane], *, wait: bool) -> None:
        due = [(lane, lane.offsets.to_commit()) for lane in lanes]
        offsets = [
            TopicPartition(lane.topic, lane.partition, offset) for lane, offset in due if offset is not None
        ]
        if not offsets:
            return
        if wait:
            self._consumer.commit(offsets=offsets, asynchronous=False)
            self._after_commit(None, offsets)
        else:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _after_commit(self, error: object, partitions: list[TopicPartition]) -> None:
        if error is not None:
            _log.warning("commit failed: %s", error, extra={"source": self._origin.name})
            return
        for found in partitions:
            lane = self._lanes.get((found.topic, found.partition))
            if lane is not None and found.error is None:
                lane.offsets.committed = found.offset
        self._counts["commits"] += 1
        self._committed_at = time.time()

    def _log_partitions(self, what: str, partitions: list[TopicPartition]) -> None:
        names = [f"{found.topic}/{found.partition}" for found in partitions]
        if names:
            extra = {"source": self._origin.name, "partitions": names}
            _log.info("partitions %s", what, extra=extra)

    # What follows runs on the event loop.

    def _end(self, failure: BaseException | None) -> None:
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)

    def _accept(self, batch: list[tuple[Lane, int, Event | None]]) -> None:
        for lane, offset, event in batch:
            if not lane.live or lane.stopped or self._draining:
                self._left()
                continue
            lane.offsets.received(offset)
            if self._subscription.ordered:
                lane.queue.append((offset, event))
                if not lane.busy:
                    lane.busy = True
                    self._spawn(self._in_order(lane))
            else:
                self._spawn(self._deliver(lane, offset, event))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours: like the real one, the partition stands still rather than skip.
            _log.error("delivery broke down", exc_info=error, extra={"source": self._origin.name})

    async def _in_order(self, lane: Lane) -> None:
        queue = lane.queue
        while queue and lane.live and not lane.stopped and not self._draining:
            offset, event = queue.popleft()
            await self._deliver(lane, offset, event)
        lane.busy = False
        if not lane.live or lane.stopped:
            queue.clear()

    async def _deliver(self, lane: Lane, offset: int, event: Event | None) -> None:
        self._in_flight += 1
        try:
            place = Place(lane.topic, lane.partition, offset)
            outcome = await self._dispatcher.dispatch(place, event)
        finally:
            self._in_flight -= 1
            self._left()
        if outcome is Outcome.STOPPED:
            lane.stopped = True
        elif lane.live:
            lane.offsets.done(offset)

    def _left(self) -> None:
        if not self._subscription.ordered:
            with self._pending_changed:
                self._pending -= 1
                if self._pending < self._subscription.max_poll_records:
                    self._pending_changed.notify()


def _settings(subscription: Subscription) -> dict[str, Any]:
    """The data plane's own consumer settings, as far as librdkafka knows them."""
    return {
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 3_000,
        "max.poll.interval.ms": 300_000,
        "max.partition.fetch.bytes": 65_536,
        "isolation.level": "read_uncommitted",
        "partition.assignment.strategy": "cooperative-sticky",
        "allow.auto.create.topics": False,
        # Bounds what one member holds beside its lanes.
        "queued.max.messages.kbytes": 16_384,
        **subscription.settings,
        "group.id": subscription.group,
        "auto.offset.reset": subscription.initial_offset,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }


def _record(message: Message) -> Record:
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=cast("int", message.offset()),
        timestamp=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=cast("Headers", message.headers() or []),
    )


def _partitions(lanes: list[Lane]) -> list[TopicPartition]:
    return [TopicPartition(lane.topic, lane.partition) for lane in lanes]
