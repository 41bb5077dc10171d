"""A connection from a caller: requests read whole, answers passed on as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from orderflow_sandbox.serving.exchange import HOP_BY_HOP, Exchange, Request, answer

if TYPE_CHECKING:
    from orderflow_sandbox.serving.ingress import Ingress

_HEAD_BOUND = 64 * 1024
_VERSIONED_CHUNKS = "1.1"


class Caller(asyncio.Protocol):
    """One request at a time; what is pipelined behind it waits in order."""

    def __init__(self, ingress: Ingress, fixed: str | None) -> None:
        """`fixed` names the Service of a listener that serves only one."""
        self._ingress = ingress
        self._fixed = fixed
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._request: Request | None = None
        self._waiting: deque[Request] = deque()
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._host = b""
        self._lines: list[bytes] = []
        self._head_size = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._has_body = False
        self._expects = False

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._request is not None

    def close(self) -> None:
        """End the connection once what is written has gone out."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._ingress.callers.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse; whole requests start as they are found."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            refusal = error.__context__
            if not isinstance(refusal, _RefusedError):
                raise
            self._reject(refusal.status, str(refusal))
        except httptools.HttpParserError:
            self._reject(400, "not an HTTP request")

    def connection_lost(self, error: Exception | None) -> None:
        """The caller is gone."""
        del error
        self._ingress.callers.discard(self)
        self._waiting.clear()
        if self._exchange is not None:
            self._exchange.cancel()

    def pause_writing(self) -> None:
        """The caller reads too slowly."""
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        if self._exchange is not None:
            self._exchange.resume()

    # httptools

    def on_url(self, target: bytes) -> None:
        """The request target, which may come in pieces."""
        self._target += target
        self._grow(len(target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what is for the instance."""
        self._grow(len(name) + len(value))
        lower = name.lower()
        if lower == b"host":
            self._host = value
        elif lower in HOP_BY_HOP:
            self._has_body = self._has_body or lower in {b"content-length", b"transfer-encoding"}
            self._expects = self._expects or lower == b"expect"
            return
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        """Ask for the body where the caller waits to be asked."""
        if self._parser.should_upgrade():
            raise _RefusedError(501, "protocol upgrades are not supported by the sandbox")
        if self._expects and self._transport is not None and not self.busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Gather the body, up to the bound."""
        self._body.append(data)
        self._body_size += len(data)
        if self._body_size > self._ingress.body_bound:
            raise _RefusedError(413, "the body is larger than the sandbox passes on")

    def on_message_complete(self) -> None:
        """A request is whole: start it, or let it wait for the one before."""
        chunks_allowed = self._parser.get_http_version() == _VERSIONED_CHUNKS
        request = Request(
            method=self._parser.get_method(),
            target=self._target,
            host=self._host,
            head=b"".join(self._lines),
            body=b"".join(self._body),
            has_body=self._has_body,
            keep_alive=chunks_allowed and self._parser.should_keep_alive(),
            chunks_allowed=chunks_allowed,
        )
        self._reset()
        if self.busy:
            self._waiting.append(request)
            if self._transport is not None:
                self._transport.pause_reading()
        else:
            self._start(request)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > _HEAD_BOUND:
            raise _RefusedError(431, "the headers are larger than the sandbox passes on")

    def _start(self, request: Request) -> None:
        self._request = request
        pool = self._ingress.pool_for(request.host, self._fixed)
        if isinstance(pool, str):
            self.answer(503 if self._fixed or self._ingress.knows(request.host) else 404, pool)
            return
        exchange = Exchange(self, request, pool)
        self._exchange = exchange
        exchange.begin()

    def _reject(self, status: int, reason: str) -> None:
        """Answer what is not a request at all; nothing after it can be understood."""
        if self._transport is not None and not self.busy:
            self._transport.write(answer(status, reason, keep_alive=False))
        self.close()

    # What the exchange says.

    def answer(self, status: int, reason: str) -> None:
        """An answer of the ingress itself."""
        keep_alive = self._request is not None and self._request.keep_alive
        self.send(answer(status, reason, keep_alive=keep_alive))
        self.done(close=False)

    def send(self, data: bytes) -> None:
        """Some of an answer."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def done(self, *, close: bool) -> None:
        """The answer is whole."""
        keep_alive = self._request is not None and self._request.keep_alive
        self._exchange = None
        self._request = None
        if close or not keep_alive or self._ingress.closing:
            self.close()
        elif self._waiting:
            request = self._waiting.popleft()
            if not self._waiting and self._transport is not None:
                self._transport.resume_reading()
            self._start(request)

    def abort(self) -> None:
        """An answer that had begun cannot be finished: the caller must see it broken."""
        self._exchange = None
        self._request = None
        if self._transport is not None:
            self._transport.abort()


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
