"""One member of a KafkaSource's consumer group.

A thread of its own owns the Kafka consumer: it polls, pauses partitions that have enough buffered, commits, and takes
part in rebalances. Events are sent on the event loop. So heartbeats and polls go on while a partition waits out ten
minutes of retries.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from orderflow_sandbox.delivery.partition_queue import Deliveries, PartitionQueue
from orderflow_sandbox.delivery.records import Origin, Record, events_of_poll

if TYPE_CHECKING:
    from collections import Counter

    from orderflow_sandbox.delivery.dispatch import Dispatcher
    from orderflow_sandbox.delivery.records import Headers
    from orderflow_sandbox.delivery.subscription import Subscription

_log = logging.getLogger(__name__)

COMMIT_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1
# Per partition, in records. A pause discards what librdkafka has prefetched, so it must be rare.
_PAUSE_ABOVE: Final = 1000
_RESUME_BELOW: Final = 250


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
        self._counts = counts
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._deliveries = Deliveries(dispatcher, subscription, origin.name)
        self._has_room = True
        self._drained = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._committed_at: float | None = None
        settings = {**subscription.consumer_settings(), "on_commit": self._after_commit}
        self._consumer = Consumer(settings, logger=_log)
        self._thread = threading.Thread(target=self._run, name=f"{origin.name}-consumer", daemon=True)

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when the consumer has closed; its exception is the reason where the consumer failed."""
        return self._ended

    @property
    def in_flight(self) -> int:
        return self._deliveries.in_flight

    @property
    def committed_at(self) -> float | None:
        """The time of the last commit, in seconds since the epoch."""
        return self._committed_at

    @property
    def queues(self) -> list[PartitionQueue]:
        return list(self._queues.values())

    def start(self) -> None:
        self._thread.start()

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for what is in flight, commits, and leaves the group.

        A record that is still being retried then is not committed and will be delivered again.
        """
        await self._deliveries.drain(grace)
        self._drained.set()
        await asyncio.wait([self._ended])
        self._deliveries.cancel()

    def _end(self, failure: BaseException | None) -> None:
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)

    # Everything below runs in the consumer's thread.

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
        except Exception as error:  # noqa: BLE001 - the event loop's side decides what to do about it
            failure = error
        finally:
            try:
                self._commit(self.queues, wait=True)
                self._consumer.close()
            except Exception as error:  # noqa: BLE001 - the same
                failure = failure or error
        self._loop.call_soon_threadsafe(self._end, failure)

    def _poll_until_drained(self) -> None:
        commit_due = time.monotonic() + COMMIT_SECONDS
        while not self._drained.is_set():
            self._pause_and_resume()
            first = self._consumer.poll(_POLL_SECONDS)
            if first is not None:
                more = self._subscription.max_poll_records - 1
                messages = [first, *self._consumer.consume(more, 0)] if more else [first]
                self._hand_over(messages)
            if time.monotonic() >= commit_due:
                self._commit(self.queues, wait=False)
                commit_due = time.monotonic() + COMMIT_SECONDS

    def _pause_and_resume(self) -> None:
        pause: list[PartitionQueue] = []
        resume: list[PartitionQueue] = []
        self._has_room = self._deliveries.wait_for_room()
        for queue in self._queues.values():
            enough = len(queue.events) > _PAUSE_ABOVE
            if self._deliveries.draining or queue.stopped or not self._has_room or enough:
                if not queue.paused:
                    pause.append(queue)
            elif queue.paused and len(queue.events) < _RESUME_BELOW:
                resume.append(queue)
        if pause:
            self._consumer.pause(_partitions(pause))
        if resume:
            self._consumer.resume(_partitions(resume))
        for queue in pause:
            queue.paused = True
        for queue in resume:
            queue.paused = False

    def _hand_over(self, messages: list[Message]) -> None:
        records: list[Record] = []
        queues: list[PartitionQueue] = []
        for message in messages:
            error = message.error()
            if error is not None:
                _log.warning("Kafka: %s", error.str(), extra={"source": self._origin.name})
                if error.fatal():
                    raise KafkaException(error)
                continue
            record = _record(message)
            queue = self._queues.get((record.topic, record.partition))
            if queue is not None and not queue.stopped:
                records.append(record)
                queues.append(queue)
        if not records or self._deliveries.draining:
            return
        events = events_of_poll(records, self._origin)
        self._deliveries.hand_over(
            [
                (queue, record.offset, event)
                for queue, record, event in zip(queues, records, events, strict=True)
            ]
        )

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._queues[each.topic, each.partition] = PartitionQueue(each.topic, each.partition)
        self._log_partitions("assigned", partitions)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Commits what is done. What is in flight goes on without counting: it will be delivered again."""
        queues = self._remove(partitions)
        try:
            self._commit(queues, wait=True)
        except KafkaException as error:
            _log.warning("commit at revocation failed: %s", error)
        self._log_partitions("revoked", partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._remove(partitions)
        self._log_partitions("lost", partitions)

    def _remove(self, partitions: list[TopicPartition]) -> list[PartitionQueue]:
        queues = []
        for each in partitions:
            queue = self._queues.pop((each.topic, each.partition), None)
            if queue is not None:
                queue.assigned = False
                queues.append(queue)
        return queues

    def _commit(self, queues: list[PartitionQueue], *, wait: bool) -> None:
        due = [(queue, queue.offsets.to_commit()) for queue in queues]
        offsets = [
            TopicPartition(queue.topic, queue.partition, offset)
            for queue, offset in due
            if offset is not None
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
        for each in partitions:
            queue = self._queues.get((each.topic, each.partition))
            if queue is not None and each.error is None:
                queue.offsets.committed = each.offset
        self._counts["commits"] += 1
        self._committed_at = time.time()

    def _log_partitions(self, what: str, partitions: list[TopicPartition]) -> None:
        names = [f"{each.topic}/{each.partition}" for each in partitions]
        if names:
            extra = {"source": self._origin.name, "partitions": names}
            _log.info("partitions %s", what, extra=extra)


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


def _partitions(queues: list[PartitionQueue]) -> list[TopicPartition]:
    return [TopicPartition(queue.topic, queue.partition) for queue in queues]
