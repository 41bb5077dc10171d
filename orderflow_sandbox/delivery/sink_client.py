"""Requests to one sink, as KafkaSource sends them."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderflow_sandbox.http_client import ConnectionPool, UnreachableError

if TYPE_CHECKING:
    from orderflow_sandbox.delivery.sinks import Sink
    from orderflow_sandbox.http_client import Response

# Enough for knativeerrordata.
_BODY_BYTES: Final = 1024
# Servers close idle connections after 5 s (uvicorn) or more.
_FRESH_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class SinkResponse:
    """`headers` are Location and Kne-* only; `body` is its first 1024 bytes."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def location(self) -> str | None:
        return next((value for name, value in self.headers if name.lower() == "location"), None)


class SinkClient:
    """Keeps as many connections to the sink as requests are in flight."""

    def __init__(self, sink: Sink, *, namespace: str) -> None:
        self.sink = sink
        self._namespace = namespace
        tls = ssl.create_default_context() if sink.tls else None
        self._connections = ConnectionPool(sink.host, sink.port, fresh_seconds=_FRESH_SECONDS, tls=tls)
        common = (
            f"{sink.path} HTTP/1.1\r\nhost: {sink.authority}\r\n"
            f"prefer: reply\r\nkn-namespace: {namespace}\r\n"
        ).encode("latin-1")
        self._post = b"POST " + common
        self._get = b"GET " + common

    async def post(self, head: bytes, body: bytes | None, seconds: float) -> SinkResponse:
        """`head` has the lines of the event's headers. `seconds` is the time for everything, connecting included.

        Raises UnreachableError where no response comes in that time.
        """
        return await self._send(b"%b%b\r\n%b" % (self._post, head, body or b""), seconds)

    async def get(self, head: bytes, seconds: float) -> SinkResponse:
        """As post, without a body."""
        return await self._send(b"%b%b\r\n" % (self._get, head), seconds)

    def to(self, sink: Sink) -> SinkClient:
        """A client for the sink to which this one's sink redirects."""
        return SinkClient(sink, namespace=self._namespace)

    def close(self) -> None:
        self._connections.close()

    async def _send(self, request: bytes, seconds: float) -> SinkResponse:
        try:
            async with asyncio.timeout(seconds):
                connection = self._connections.idle() or await self._connections.connect()
                response = await connection.request(request)
                body = await _first_bytes(response)
        except TimeoutError as error:
            raise UnreachableError("no response in time") from error
        except OSError as error:
            raise UnreachableError("no connection") from error
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.headers
            if name[:4].lower() == b"kne-" or name.lower() == b"location"
        ]
        return SinkResponse(response.status, headers, body)


async def _first_bytes(response: Response) -> bytes:
    """Reads the body to its end, so that the connection can be reused, and returns its first 1024 bytes."""
    body = b""
    try:
        while not response.ended:
            piece = await response.read()
            body += piece[: _BODY_BYTES - len(body)]
    finally:
        response.abort()
    return body
