"""A load of HTTP requests: each lane has one request in flight, as KafkaSource has one event per partition."""

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
class Answers:
    """seconds is from the first request to the last answer, latencies are those of each request, in seconds."""

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
    """An event as KafkaSource POSTs it."""
    headers = {f"ce-{name}": value for name, value in event.attributes().items()}
    place = {"ce-knativekafkapartition": "7", "ce-knativekafkaoffset": "123456"}
    known = {"prefer": "reply", "kn-namespace": "default", "content-type": event.content_type}
    return request("/", headers | place | known, event.data)


def in_lanes(events: Sequence[CloudEvent], requests: Iterable[bytes], lanes: int) -> list[list[bytes]]:
    """One order's requests are in one lane, in their sequence."""
    dealt: list[list[bytes]] = [[] for _ in range(lanes)]
    of_order: dict[str, int] = {}
    for event, each in zip(events, requests, strict=True):
        dealt[of_order.setdefault(event.subject, len(of_order) % lanes)].append(each)
    return dealt


class _Lane(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], answers: Answers) -> None:
        self._left = deque(requests)
        self._answers = answers
        self._parser = httptools.HttpResponseParser(self)
        self._since = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by type.
        self._transport = cast("asyncio.Transport", transport)

    def next(self) -> None:
        if not self._left:
            self._transport.close()
            if not self.ended.done():
                self.ended.set_result(None)
            return
        self._since = time.perf_counter()
        self._transport.write(self._left.popleft())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._answers.latencies.append(time.perf_counter() - self._since)
        self._answers.statuses[self._parser.get_status_code()] += 1
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("the stage closed the connection"))


def _itself(lane: _Lane) -> _Lane:
    return lane


async def _send(port: int, lanes: Sequence[Sequence[bytes]], host: str) -> Answers:
    loop = asyncio.get_running_loop()
    answers = Answers()
    opened = [_Lane(each, answers) for each in lanes if each]
    for lane in opened:
        await loop.create_connection(partial(_itself, lane), host, port)
    started = time.perf_counter()
    for lane in opened:
        lane.next()
    await asyncio.gather(*(lane.ended for lane in opened))
    answers.seconds = time.perf_counter() - started
    return answers


def send(port: int, lanes: Sequence[Sequence[bytes]], host: str = "127.0.0.1") -> Answers:
    """Every lane's requests, one after the other; all lanes at once."""
    return uvloop.run(_send(port, lanes, host))
