"""A proxy before the ingress that can cut an answer off: the effect is there, and the delivery does not know."""

import asyncio
import contextlib
import random
from urllib.parse import urlsplit

_CHUNK = 65536


class Cutter:
    """Passes everything on. share is the part of answers that are not: their connection is closed instead."""

    def __init__(self, ingress: str, rolls: random.Random) -> None:
        parts = urlsplit(ingress)
        self.share = 0.0
        self.cut = 0
        self.url = ""
        self._upstream = (parts.hostname, parts.port)
        self._rolls = rolls
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Whoever is still connected is cut off."""
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            answers, requests = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        passing = [
            asyncio.ensure_future(self._requests(reader, requests)),
            asyncio.ensure_future(self._answers(answers, writer)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in passing:
                each.cancel()
            for side in (requests, writer):
                side.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._rolls.random() < self.share:
                    self.cut += 1
                    return
                writer.write(data)
                await writer.drain()
