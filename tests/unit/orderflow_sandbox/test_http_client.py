"""The small HTTP client against a server whose responses each test writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from orderflow_sandbox.http_client import ConnectionPool, UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderflow_sandbox.http_client import Connection, Response

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Server:
    """Tests write the responses; `ends` gets an entry for each connection that a client ended."""

    port: int = 0
    ends: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    writers: asyncio.Queue[asyncio.StreamWriter] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await self.writers.put(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.ends.put(None)
            writer.close()

    async def requested(self) -> asyncio.StreamWriter:
        """Where to write the response of the next request."""
        return await asyncio.wait_for(self.writers.get(), 5)

    async def end(self) -> None:
        """Returns when a client has ended a connection."""
        await asyncio.wait_for(self.ends.get(), 5)

    def pool(self, fresh_seconds: float = 4.0) -> ConnectionPool:
        return ConnectionPool("127.0.0.1", self.port, fresh_seconds=fresh_seconds)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    started = Server()
    listening = await asyncio.start_server(started.serve, "127.0.0.1", 0)
    started.port = listening.sockets[0].getsockname()[1]
    yield started
    listening.close()


async def connected(pool: ConnectionPool) -> Connection:
    return pool.idle() or await pool.connect()


async def response_of(server: Server, connection: Connection, data: bytes, *, head: bool = False) -> Response:
    request = asyncio.create_task(connection.request(REQUEST, method_is_head=head))
    (await server.requested()).write(data)
    return await asyncio.wait_for(request, 5)


async def whole(response: Response) -> bytes:
    pieces = []
    while not response.ended:
        pieces.append(await asyncio.wait_for(response.read(), 5))
    return b"".join(pieces)


async def test_a_body_is_read_as_it_comes(server: Server) -> None:
    pool = server.pool()
    connection = await connected(pool)
    request = asyncio.create_task(connection.request(REQUEST))
    writer = await server.requested()
    writer.write(b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\ntransfer-encoding: chunked\r\n\r\n")
    response = await request
    assert (response.status, response.headers[0]) == (200, (b"X-Name", b"caf\xe9"))
    writer.write(b"5\r\nfirst\r\n")
    assert await response.read() == b"first"
    assert pool.idle() is None
    writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
    assert await whole(response) == b"second"
    assert pool.idle() is connection


async def test_a_body_without_a_length_ends_with_its_connection(server: Server) -> None:
    connection = await connected(server.pool())
    request = asyncio.create_task(connection.request(REQUEST))
    writer = await server.requested()
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    writer.close()
    assert await whole(await request) == b"all of it"


async def test_a_body_that_breaks_off_is_an_error(server: Server) -> None:
    connection = await connected(server.pool())
    request = asyncio.create_task(connection.request(REQUEST))
    writer = await server.requested()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
    response = await request
    writer.close()
    assert await response.read() == b"half"
    with pytest.raises(UnreachableError, match="connection lost"):
        await response.read()


@pytest.mark.parametrize(("status", "head"), [(b"200", True), (b"304", False)])
async def test_a_response_without_a_body_may_have_the_length_of_one(
    server: Server, status: bytes, *, head: bool
) -> None:
    data = b"HTTP/1.1 %b X\r\ncontent-length: 9\r\n\r\n" % status
    response = await response_of(server, await connected(server.pool()), data, head=head)
    assert response.ended


async def test_an_interim_response_is_passed_over(server: Server) -> None:
    data = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + EMPTY
    response = await response_of(server, await connected(server.pool()), data)
    assert (response.status, [name for name, _ in response.headers]) == (200, [b"content-length"])


async def test_a_connection_that_gets_what_nobody_asked_for_is_not_used_again(server: Server) -> None:
    pool = server.pool()
    response = await response_of(server, await connected(pool), EMPTY + EMPTY)
    assert response.status == 200
    await server.end()
    assert pool.idle() is None


async def test_a_response_that_is_given_up_ends_its_connection(server: Server) -> None:
    pool = server.pool()
    data = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"
    response = await response_of(server, await connected(pool), data)
    response.abort()
    await server.end()
    assert pool.idle() is None


async def test_a_request_that_is_cancelled_ends_its_connection(server: Server) -> None:
    connection = await connected(server.pool())
    request = asyncio.create_task(connection.request(REQUEST))
    await server.requested()
    request.cancel()
    await server.end()


async def test_a_server_waits_for_a_reader_that_is_slow(server: Server) -> None:
    size = 64 * 1024 * 1024
    connection = await connected(server.pool())
    request = asyncio.create_task(connection.request(REQUEST))
    writer = await server.requested()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
    response = await request
    writer.write(b"x" * size)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.3)
    assert len(await whole(response)) == size


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(server: Server) -> None:
    pool = server.pool(fresh_seconds=0.0)
    await response_of(server, await connected(pool), EMPTY)
    assert pool.idle() is None
    await server.end()


async def test_a_closed_pool_ends_what_is_idle_now_and_what_is_busy_when_it_is_done(server: Server) -> None:
    pool = server.pool()
    busy, idle = await connected(pool), await connected(pool)
    await response_of(server, idle, EMPTY)
    request = asyncio.create_task(busy.request(REQUEST))
    writer = await server.requested()
    pool.close()
    await server.end()
    writer.write(EMPTY)
    assert (await request).status == 200
    await server.end()
