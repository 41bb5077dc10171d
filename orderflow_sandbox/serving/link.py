"""A kept connection to an instance, carrying one request at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

if TYPE_CHECKING:
    from orderflow_sandbox.serving.exchange import Exchange, Request
    from orderflow_sandbox.serving.instance import Instance

_FIRST_FINAL_STATUS = 200
_NO_CONTENT = 204
_NOT_MODIFIED = 304
# Headers of one connection only, and those that frame the body: both are written anew.
_NOT_PASSED_ON = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"trailer", b"transfer-encoding"}
)


class Link(asyncio.Protocol):
    """Reads an answer and hands it on piece by piece, never whole."""

    def __init__(self, instance: Instance) -> None:
        """One link belongs to one instance."""
        self.idle_since = 0.0
        self._instance = instance
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._chunks_allowed = True
        self._without_body = False
        self._out: list[bytes] = []
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._reason = b""
        self._lines: list[bytes] = []
        self._sized = False
        self._chunked = False
        self._close_delimited = False
        self._whole = False
        self._reusable = True

    @property
    def open(self) -> bool:
        """Whether a request may still be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, exchange: Exchange, request: Request) -> None:
        """Send a request whole."""
        self._exchange = exchange
        self._chunks_allowed = request.chunks_allowed
        self._without_body = request.method == b"HEAD"
        if self._transport is None or self._transport.is_closing():
            self._fail("connection lost")
            return
        self._transport.write(request.to_instance())

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def forget(self) -> None:
        """Nobody waits for the answer any more: the instance sees the connection end."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading."""
        if self.open and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.open and self._transport is not None:
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; pass on what it held in one write."""
        if self._exchange is None:
            # Unasked: there is no request this could be the answer to.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()
            self._fail("its answer is not HTTP")
            return
        self._flush()

    def eof_received(self) -> bool:
        """The instance is done with the connection."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The end of an answer that only this delimits, or a broken one."""
        if self in self._instance.idle_links:
            self._instance.idle_links.remove(self)
        if self._exchange is None:
            return
        if self._close_delimited and error is None:
            self._reusable = False
            self._whole = True
            self._flush()
        else:
            self._fail("connection lost")

    # httptools

    def on_status(self, reason: bytes) -> None:
        """The reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what is for the caller."""
        lower = name.lower()
        if lower == b"content-length":
            self._sized = True
        elif lower in _NOT_PASSED_ON:
            self._chunked = self._chunked or lower == b"transfer-encoding"
            return
        self._lines.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        """Write the head, with a frame that the caller understands."""
        self._status = self._parser.get_status_code()
        if self._status < _FIRST_FINAL_STATUS or self._exchange is None:
            return
        bare = self._without_body or self._status in {_NO_CONTENT, _NOT_MODIFIED}
        self._close_delimited = not (bare or self._sized or self._chunked)
        self._reusable = self._parser.should_keep_alive() and not self._close_delimited
        frame = b"\r\n"
        if not bare and not self._sized:
            frame = b"transfer-encoding: chunked\r\n\r\n" if self._chunks_allowed else frame
        line = b"HTTP/1.1 %d %b\r\n" % (self._status, self._reason)
        self._out.append(line + b"".join(self._lines) + frame)
        if self._without_body:
            # The parser would wait for the body that its headers speak of.
            self._reusable = False
            self._whole = True

    def on_body(self, data: bytes) -> None:
        """Frame some of the body."""
        if self._sized or not self._chunks_allowed:
            self._out.append(data)
        else:
            self._out.append(b"%x\r\n%b\r\n" % (len(data), data))

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if self._status < _FIRST_FINAL_STATUS:
            self._reset()
        else:
            self._whole = True

    def _flush(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        framed = not self._sized and self._status not in {_NO_CONTENT, _NOT_MODIFIED}
        framed = framed and not self._without_body
        if self._whole and framed and self._chunks_allowed:
            self._out.append(b"0\r\n\r\n")
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            exchange.pass_on(self._status, data)
        if self._whole:
            self._exchange = None
            reusable, close = self._reusable, framed and not self._chunks_allowed
            self._reset()
            if reusable and not self._instance.draining:
                self.idle_since = self._loop.time()
                self._instance.idle_links.append(self)
            else:
                self.close()
            exchange.complete(close=close)

    def _fail(self, why: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.broken(why)
