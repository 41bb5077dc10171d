"""POST over HTTP/1.1 connections that are kept open.

Own code, on httptools' parser, because KafkaSource sends what no client library here can: header
values as Latin-1 bytes, and a POST without a body that has no content-length.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import httptools

if TYPE_CHECKING:
    from orderflow_sandbox.delivery.sinks import Sink

# Enough for knativeerrordata.
_BODY_KEPT: Final = 1024
# Servers close idle connections after 5 s (uvicorn) and more: never write to one about to go.
_IDLE_SECONDS: Final = 4.0
_FIRST_FINAL_STATUS: Final = 200


class UnreachableError(Exception):
    """No answer: refused, broken off, or none in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """headers only those that matter (Location, Kne-*); body its first 1024 bytes."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def location(self) -> str | None:
        return next((value for name, value in self.headers if name.lower() == "location"), None)


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Answer] | None = None
        self.idle_since = 0.0
        self.reusable = True
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.fail("the answer is not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.fail("the connection broke off")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name[:4].lower() == b"kne-" or name.lower() == b"location":
            self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        if len(self._body) < _BODY_KEPT:
            self._body += body[: _BODY_KEPT - len(self._body)]

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        answer = Answer(status, self._headers, self._body)
        self._headers, self._body = [], b""
        if status < _FIRST_FINAL_STATUS:
            return
        if not self._parser.should_keep_alive():
            self.reusable = False
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(answer)
        else:
            # An answer nobody asked for: the connection is out of step.
            self.reusable = False

    def fail(self, why: str) -> None:
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(UnreachableError(why))


class SinkClient:
    """Connections to one sink, as many as requests are in flight, the warmest one first."""

    def __init__(self, sink: Sink, *, namespace: str) -> None:
        self.sink = sink
        self._namespace = namespace
        self._free: list[_Connection] = []
        self._ssl = ssl.create_default_context() if sink.tls else None
        common = (
            f"{sink.path} HTTP/1.1\r\nhost: {sink.authority}\r\n"
            f"prefer: reply\r\nkn-namespace: {namespace}\r\n"
        ).encode("latin-1")
        self._post = b"POST " + common
        self._get = b"GET " + common

    async def post(self, head: bytes, body: bytes | None, timeout: float) -> Answer:  # noqa: ASYNC109 - one timer instead of a context per event
        """The head is lines of headers; timeout is in seconds, connecting included."""
        request = b"%b%b\r\n%b" % (self._post, head, body or b"")
        return await self._exchange(request, timeout)

    async def get(self, head: bytes, timeout: float) -> Answer:  # noqa: ASYNC109 - the same
        return await self._exchange(b"%b%b\r\n" % (self._get, head), timeout)

    async def _exchange(self, request: bytes, seconds: float) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        connection = self._warm(loop.time()) or await self._open(seconds)
        transport = connection.transport
        answer: asyncio.Future[Answer] = loop.create_future()
        if transport is None or transport.is_closing():
            raise UnreachableError("the connection broke off")
        connection.answer = answer
        timer = loop.call_at(deadline, connection.fail, "no answer in time")
        try:
            transport.write(request)
            found = await answer
        except BaseException:
            transport.abort()
            raise
        finally:
            timer.cancel()
            connection.answer = None
        if connection.reusable:
            connection.idle_since = loop.time()
            self._free.append(connection)
        else:
            transport.close()
        return found

    def _warm(self, now: float) -> _Connection | None:
        while self._free:
            connection = self._free.pop()
            transport = connection.transport
            if transport is None or transport.is_closing() or not connection.reusable:
                continue
            if now - connection.idle_since < _IDLE_SECONDS:
                return connection
            transport.close()
        return None

    async def _open(self, seconds: float) -> _Connection:
        sink = self.sink
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(_Connection, sink.host, sink.port, ssl=self._ssl)
        except TimeoutError as error:
            raise UnreachableError("no connection in time") from error
        except OSError as error:
            raise UnreachableError("no connection") from error
        return connection

    def to(self, sink: Sink) -> SinkClient:
        """A client for where this one's sink redirects to."""
        return SinkClient(sink, namespace=self._namespace)

    def close(self) -> None:
        while self._free:
            transport = self._free.pop().transport
            if transport is not None:
                transport.close()
