"""A small HTTP/1.1 client: connections to one server are kept open, and each carries one request at a time.

It is our own for its speed: a request through aiohttp's or httpcore's client costs several times the CPU
(`python -m bench.front` measures the front that is built on it).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import httptools

if TYPE_CHECKING:
    import ssl

_FIRST_FINAL_STATUS: Final = 200
_NOT_MODIFIED: Final = 304
_BUFFER_BYTES: Final = 64 * 1024
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class UnreachableError(Exception):
    """There is no whole response: the connection was refused or broke off, or what came is not HTTP."""


class Response:
    """A response whose head has arrived. Header names are as they came."""

    __slots__ = ("_connection", "_error", "_pieces", "_size", "_waiter", "complete", "headers", "status")

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        """Whether the last byte has arrived; it may not have been read yet."""
        self._connection = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: UnreachableError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether `read` has returned the whole body."""
        return self.complete and not self._pieces

    async def read(self) -> bytes:
        """Waits for the next piece of the body; b"" is its end. Raises UnreachableError where the rest cannot come."""
        while not self._pieces:
            if self.complete:
                return b""
            await self.changed()
        pieces, self._pieces, self._size = self._pieces, [], 0
        if not self.complete:
            self._connection.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def abort(self) -> None:
        """Gives up what has not arrived: the server sees its connection end."""
        if not self.complete:
            self._connection.abort()

    # For the connection.

    @property
    def ends_with_its_connection(self) -> bool:
        """Whether the body has neither a length nor chunks."""
        return self.status > 0 and not any(name.lower() in _FRAMING for name, _ in self.headers)

    async def changed(self) -> None:
        """Waits until more has arrived. Raises UnreachableError where nothing more can arrive."""
        if self._error is not None:
            raise self._error
        self._waiter = self._connection.loop.create_future()
        await self._waiter

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def append(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _BUFFER_BYTES:
            self._connection.pause_reading()

    def fail(self, reason: str) -> None:
        self._error = UnreachableError(reason)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._error)


class Connection(asyncio.Protocol):
    """Made by a `ConnectionPool`, to which it returns by itself when a response is complete."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self._pool = pool
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._without_body = False
        self._paused = False

    @property
    def open(self) -> bool:
        return not self._transport.is_closing()

    async def request(self, data: bytes, *, method_is_head: bool = False) -> Response:
        """Sends a request once, whole, and waits for the head of its response.

        Whoever does not read the response to its end must abort it. Raises UnreachableError.
        """
        if not self.open:
            raise UnreachableError("connection lost")
        response = self._response = Response(self)
        self._without_body = method_is_head
        self._transport.write(data)
        try:
            while not response.status:
                await response.changed()
        except BaseException:
            response.abort()
            raise
        return response

    def abort(self) -> None:
        self._response = None
        self._transport.abort()

    def close(self) -> None:
        self._transport.close()

    def pause_reading(self) -> None:
        if not self._paused and self.open:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and self.open:
            self._paused = False
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nobody has asked: client and server do not agree on which response is whose.
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("its answer is not HTTP")
        response.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        response = self._response
        if response is not None and response.ends_with_its_connection and exc is None:
            self._complete(reusable=False)
            response.wake()
        else:
            self._fail("connection lost")

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None:
            self._response.headers.append((name, value))

    def on_headers_complete(self) -> None:
        response, status = self._response, self._parser.get_status_code()
        if response is None:
            self.abort()
        elif status >= _FIRST_FINAL_STATUS:
            response.status = status
            if self._without_body or status == _NOT_MODIFIED:
                # The parser would wait for the body that the headers describe.
                self._complete(reusable=False)

    def on_body(self, body: bytes) -> None:
        if self._response is not None:
            self._response.append(body)

    def on_message_complete(self) -> None:
        response = self._response
        if response is not None and response.status:
            self._complete(reusable=self._parser.should_keep_alive())
        elif response is not None:
            # An interim response: the final one follows.
            response.headers.clear()

    def _complete(self, *, reusable: bool) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.complete = True
        self.resume_reading()
        if reusable and self.open:
            self._pool.put_back(self)
        else:
            self.close()

    def _fail(self, reason: str) -> None:
        response = self._response
        self.abort()
        if response is not None:
            response.fail(reason)


class ConnectionPool:
    """Connections to one server, as many as requests are in flight. The one that was used last goes first.

    `fresh_seconds`: a connection that has been idle for longer is not used again. It must be less than the time after
    which the server closes an idle connection, since a request that meets the closing is lost.
    """

    def __init__(
        self, host: str, port: int, *, fresh_seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._fresh_seconds = fresh_seconds
        self._tls = tls
        self._idle: deque[Connection] = deque()
        self._closed = False

    def idle(self) -> Connection | None:
        """A connection that is kept, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open and connection.loop.time() - connection.idle_since < self._fresh_seconds:
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """A new connection. Raises OSError where the server cannot be reached."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self), self._host, self._port, ssl=self._tls
        )
        return connection

    def put_back(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        else:
            connection.idle_since = connection.loop.time()
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """The connection has ended."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Ends the idle connections now, and each other one when its response is complete."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
