"""The bytes of requests, against a server that keeps them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from orderflow_sandbox.delivery.sink_client import SinkClient
from orderflow_sandbox.delivery.sinks import Sink
from orderflow_sandbox.http_client import UnreachableError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Server:
    """Answers the n-th request with the n-th of answers, then for ever with the last."""

    answers: list[bytes] = field(default_factory=lambda: [OK])
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                if not answer:
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    def client(self) -> SinkClient:
        sink = Sink(f"http://x:{self.port}", "127.0.0.1", self.port, tls=False, authority="x", path="/p")
        return SinkClient(sink, namespace="orderflow")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


async def test_a_post_without_a_body_has_no_content_length_and_latin_1_stays_one_byte(
    server: Server,
) -> None:
    client = server.client()
    await client.post(b"ce-shop: \xe9\r\n", None, 5)
    assert server.requests == [
        b"POST /p HTTP/1.1\r\nhost: x\r\nprefer: reply\r\nkn-namespace: orderflow\r\nce-shop: \xe9\r\n\r\n"
    ]
    client.close()


async def test_a_connection_is_used_again(server: Server) -> None:
    client = server.client()
    for _ in range(3):
        await client.post(b"", None, 5)
    assert (len(server.requests), server.connections) == (3, 1)
    client.close()


async def test_a_connection_that_the_sink_closes_is_not_used_again(server: Server) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"]
    client = server.client()
    for _ in range(2):
        await client.post(b"", None, 5)
    assert server.connections == 2
    client.close()


async def test_an_answer_has_its_first_1024_bytes_and_what_matters_of_its_headers(
    server: Server,
) -> None:
    body = b"x" * 3000
    server.answers = [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 422 No\r\nserver: s\r\nKne-Why: late\r\n"
        b"location: /y\r\ncontent-length: 3000\r\n\r\n" + body,
        OK,
    ]
    client = server.client()
    answer = await client.post(b"", None, 5)
    assert (answer.status, answer.body) == (422, body[:1024])
    assert answer.headers == [("Kne-Why", "late"), ("location", "/y")]
    assert (await client.post(b"", None, 5)).status == 200
    assert server.connections == 1
    client.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"garbage\r\n\r\n"])
async def test_an_answer_broken_off_late_or_unreadable_is_none(server: Server, answer: bytes) -> None:
    server.answers = [answer, OK]
    client = server.client()
    with pytest.raises(UnreachableError):
        await client.post(b"", None, 0.1)
    assert (await client.post(b"", None, 5)).status == 200
    client.close()


async def test_a_refused_connection_is_no_answer() -> None:
    closed = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    with pytest.raises(UnreachableError):
        await Server(port=port).client().post(b"", None, 5)
