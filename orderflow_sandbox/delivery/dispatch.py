"""One record's way: sink, retries, dead-letter sink, retries, or dropped and committed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from orderflow_sandbox.delivery import events
from orderflow_sandbox.delivery.policy import Backoff, Verdict, judge
from orderflow_sandbox.delivery.sinks import redirected
from orderflow_sandbox.http_client import UnreachableError

if TYPE_CHECKING:
    from collections import Counter

    from orderflow_sandbox.delivery.events import Event
    from orderflow_sandbox.delivery.sink_client import Answer, SinkClient

_log = logging.getLogger(__name__)
_MAX_REDIRECTS = 16


class Outcome(Enum):
    """How a record ended. After each but STOPPED its offset counts as done."""

    DELIVERED = "delivered"
    DEAD_LETTERED = "dead_lettered"
    DROPPED = "dropped"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is: all that is ever logged of it."""

    topic: str
    partition: int
    offset: int

    def fields(self) -> dict[str, object]:
        return {"topic": self.topic, "partition": self.partition, "offset": self.offset}


class Dispatcher:
    """Sends the records of one KafkaSource. dead_letters is None where it has no such sink."""

    def __init__(
        self,
        source: str,
        sink: SinkClient,
        dead_letters: SinkClient | None,
        backoff: Backoff,
        counts: Counter[str],
    ) -> None:
        self._source = source
        self._sink = sink
        self._dead_letters = dead_letters
        self._backoff = backoff
        self._counts = counts

    async def dispatch(self, place: Place, event: Event | None) -> Outcome:
        """The event is None where the record can't be read: it is dropped before any sink."""
        if event is None:
            return self._dropped(place, "unreadable")
        failed = await self._send(self._sink, event)
        if isinstance(failed, _Sent):
            self._counts["delivered"] += 1
            return Outcome.DELIVERED
        try:
            letter = events.dead_letter(
                event,
                self._sink.sink.url,
                status=None if failed is None else failed.status,
                headers=[] if failed is None else failed.headers,
                body=b"" if failed is None else failed.body,
            )
        except events.IllegalExtensionError:
            self._counts["stopped"] += 1
            _log.error(
                "the sink answered with an illegal Kne- header: the partition stops for good",
                extra={"source": self._source, **place.fields()},
            )
            return Outcome.STOPPED
        status = None if failed is None else failed.status
        if self._dead_letters is None:
            return self._dropped(place, "no dead-letter sink", status)
        if not isinstance(await self._send(self._dead_letters, letter), _Sent):
            return self._dropped(place, "dead-letter sink failed", status)
        self._counts["dead_lettered"] += 1
        _log.warning("dead-lettered", extra={"source": self._source, "status": status, **place.fields()})
        return Outcome.DEAD_LETTERED

    async def _send(self, client: SinkClient, event: Event) -> _Sent | Answer | None:
        """_SENT, or the last answer of a failed delivery, or None where the last had none."""
        head = events.head_of(event)
        backoff = self._backoff
        retry = 0
        while True:
            answer, verdict = await self._attempt(client, event, head)
            if verdict is Verdict.SUCCESS:
                return _SENT
            if verdict is not Verdict.RETRY:
                return answer
            retry += 1
            wait = backoff.wait(retry)
            if wait is None:
                # A zero delay makes the retry itself fail, and its error hides the answer.
                return answer if retry > backoff.retries else None
            self._counts["retried"] += 1
            await asyncio.sleep(wait)

    async def _attempt(
        self, client: SinkClient, event: Event, head: bytes | None
    ) -> tuple[Answer | None, Verdict]:
        """One delivery. An event without a head cannot be sent, and is tried again like one without an answer."""
        if head is None:
            return None, Verdict.RETRY
        try:
            answer = await client.post(head, event.data, self._backoff.timeout)
            verdict = judge(answer.status, location=answer.location is not None)
            if verdict is Verdict.FOLLOW:
                return await self._follow(client, event, answer)
        except UnreachableError:
            return None, Verdict.RETRY
        return answer, verdict

    async def _follow(self, client: SinkClient, event: Event, answer: Answer) -> tuple[Answer, Verdict]:
        """A 303 is followed by a GET without a body."""
        head = events.head_of(events.Event(event.attributes, None)) or b""
        sink = client.sink
        verdict = Verdict.FOLLOW
        for _ in range(_MAX_REDIRECTS):
            if verdict is not Verdict.FOLLOW or answer.location is None:
                break
            sink = redirected(sink, answer.location)
            other = client.to(sink)
            try:
                answer = await other.get(head, self._backoff.timeout)
            finally:
                other.close()
            verdict = judge(answer.status, method="GET", location=answer.location is not None)
        return answer, Verdict.FAIL if verdict is Verdict.FOLLOW else verdict

    def _dropped(self, place: Place, why: str, status: int | None = None) -> Outcome:
        self._counts["dropped"] += 1
        _log.warning(
            "dropped and committed",
            extra={"source": self._source, "why": why, "status": status, **place.fields()},
        )
        return Outcome.DROPPED


class _Sent:
    __slots__ = ()


_SENT = _Sent()
