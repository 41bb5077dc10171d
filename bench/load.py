"""A load of HTTP requests. Each connection has one request in flight, as KafkaSource has one event per partition."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import httptools
import uvloop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orderflow.messaging.cloudevent import CloudEvent


@dataclass(slots=True)
class Responses:
    """seconds is the time from the first request to the last response; latencies are per request, in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def request(path: str, headers: Mapping[str, str], body: bytes, host: str = "bench") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


def delivered(event: CloudEvent) -> bytes:
    """The request by which KafkaSource delivers the event."""
    headers = {f"ce-{name}": value for name, value in event.attributes().items()}
    place = {"ce-knativekafkapartition": "7", "ce-knativekafkaoffset": "123456"}
    fixed = {"prefer": "reply", "kn-namespace": "default", "content-type": event.content_type}
    return request("/", headers | place | fixed, event.data)


def by_connection(
    events: Sequence[CloudEvent], requests: Iterable[bytes], connections: int
) -> list[list[bytes]]:
    """Distributes the requests over connections. All requests of an order go over one connection, in sequence."""
    queues: list[list[bytes]] = [[] for _ in range(connections)]
    connection_of: dict[str, int] = {}
    for event, each in zip(events, requests, strict=True):
        queues[connection_of.setdefault(event.subject, len(connection_of) % connections)].append(each)
    return queues


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], responses: Responses) -> None:
        self._queue = deque(requests)
        self._responses = responses
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def send_next(self) -> None:
        if not self._queue:
            self._transport.close()
            if not self.ended.done():
                self.ended.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._queue.popleft())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._responses.latencies.append(time.perf_counter() - self._sent_at)
        self._responses.statuses[self._parser.get_status_code()] += 1
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("the stage closed the connection"))


def _itself(connection: _Connection) -> _Connection:
    return connection


async def _send(port: int, queues: Sequence[Sequence[bytes]], host: str) -> Responses:
    loop = asyncio.get_running_loop()
    responses = Responses()
    connections = [_Connection(queue, responses) for queue in queues if queue]
    for connection in connections:
        await loop.create_connection(partial(_itself, connection), host, port)
    started_at = time.perf_counter()
    for connection in connections:
        connection.send_next()
    await asyncio.gather(*(connection.ended for connection in connections))
    responses.seconds = time.perf_counter() - started_at
    return responses


def send(port: int, queues: Sequence[Sequence[bytes]], host: str = "127.0.0.1") -> Responses:
    """Sends each queue over a connection of its own, one request after the other; all connections at the same time."""
    return uvloop.run(_send(port, queues, host))
