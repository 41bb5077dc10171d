"""Delivers one record: to the sink, else to the dead-letter sink, each with retries; else the record is dropped."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from orderflow_sandbox.delivery import events
from orderflow_sandbox.delivery.policy import Backoff, Decision, decide
from orderflow_sandbox.delivery.sinks import redirected
from orderflow_sandbox.http_client import UnreachableError

if TYPE_CHECKING:
    from collections import Counter

    from orderflow_sandbox.delivery.events import Event
    from orderflow_sandbox.delivery.sink_client import SinkClient, SinkResponse

_log = logging.getLogger(__name__)
_MAX_REDIRECTS = 16


class Outcome(Enum):
    """What became of a record. Its offset counts as done, except after STOPPED."""

    DELIVERED = "delivered"
    DEAD_LETTERED = "dead_lettered"
    DROPPED = "dropped"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is in Kafka. Nothing else of a record is ever logged."""

    topic: str
    partition: int
    offset: int

    def fields(self) -> dict[str, object]:
        return {"topic": self.topic, "partition": self.partition, "offset": self.offset}


class Dispatcher:
    """Sends the records of one KafkaSource. `dead_letters` is None where it has no dead-letter sink."""

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
        """`event` is None where the record cannot be read: it is dropped and never sent."""
        if event is None:
            return self._drop(place, "unreadable")
        response = await self._send(self._sink, event)
        if isinstance(response, _Delivered):
            self._counts["delivered"] += 1
            return Outcome.DELIVERED
        try:
            dead_letter = events.dead_letter(
                event,
                self._sink.sink.url,
                status=None if response is None else response.status,
                headers=[] if response is None else response.headers,
                body=b"" if response is None else response.body,
            )
        except events.IllegalExtensionError:
            self._counts["stopped"] += 1
            _log.error(
                "the sink answered with an illegal Kne- header: the partition stops for good",
                extra={"source": self._source, **place.fields()},
            )
            return Outcome.STOPPED
        status = None if response is None else response.status
        if self._dead_letters is None:
            return self._drop(place, "no dead-letter sink", status)
        if not isinstance(await self._send(self._dead_letters, dead_letter), _Delivered):
            return self._drop(place, "dead-letter sink failed", status)
        self._counts["dead_lettered"] += 1
        _log.warning("dead-lettered", extra={"source": self._source, "status": status, **place.fields()})
        return Outcome.DEAD_LETTERED

    async def _send(self, client: SinkClient, event: Event) -> _Delivered | SinkResponse | None:
        """_DELIVERED, or the last response of a failed delivery, or None where the last attempt had no response."""
        head = events.head_of(event)
        backoff = self._backoff
        retry = 0
        while True:
            response, decision = await self._attempt(client, event, head)
            if decision is Decision.SUCCESS:
                return _DELIVERED
            if decision is not Decision.RETRY:
                return response
            retry += 1
            wait = backoff.wait(retry)
            if wait is None:
                # With a delay of zero the retry itself fails, and its error hides the response.
                return response if retry > backoff.retries else None
            self._counts["retried"] += 1
            await asyncio.sleep(wait)

    async def _attempt(
        self, client: SinkClient, event: Event, head: bytes | None
    ) -> tuple[SinkResponse | None, Decision]:
        """One attempt. An event without a head cannot be sent; it is retried as if there were no response."""
        if head is None:
            return None, Decision.RETRY
        try:
            response = await client.post(head, event.data, self._backoff.timeout)
            decision = decide(response.status, location=response.location is not None)
            if decision is Decision.FOLLOW:
                return await self._follow(client, event, response)
        except UnreachableError:
            return None, Decision.RETRY
        return response, decision

    async def _follow(
        self, client: SinkClient, event: Event, response: SinkResponse
    ) -> tuple[SinkResponse, Decision]:
        """A 303 is followed by a GET without a body."""
        head = events.head_of(events.Event(event.attributes, None, event.trace)) or b""
        sink = client.sink
        decision = Decision.FOLLOW
        for _ in range(_MAX_REDIRECTS):
            if decision is not Decision.FOLLOW or response.location is None:
                break
            sink = redirected(sink, response.location)
            other = client.to(sink)
            try:
                response = await other.get(head, self._backoff.timeout)
            finally:
                other.close()
            decision = decide(response.status, method="GET", location=response.location is not None)
        return response, Decision.FAIL if decision is Decision.FOLLOW else decision

    def _drop(self, place: Place, reason: str, status: int | None = None) -> Outcome:
        self._counts["dropped"] += 1
        _log.warning(
            "dropped and committed",
            extra={"source": self._source, "why": reason, "status": status, **place.fields()},
        )
        return Outcome.DROPPED


class _Delivered:
    __slots__ = ()


_DELIVERED = _Delivered()
