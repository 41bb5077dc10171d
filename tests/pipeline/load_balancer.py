"""A load balancer in front of a cluster's gateway: an address on this machine for a Service without a DNS name."""

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Self

from aiohttp import ClientSession, web

from tests.cluster.servers import free_port

_HOST: Final = "127.0.0.1"
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "host"})
_BYTES: Final = 16 * 2**20


class LoadBalancer:
    """Use as a context manager. `ingress` is the gateway's host:port. `name` returns the host name of the Service, and
    is called at the first request, because the Service is deployed after the start."""

    def __init__(self, ingress: str, name: Callable[[], str]) -> None:
        self._ingress = ingress
        self._find_name = name
        self._name = ""
        self._port = free_port(_HOST)
        self.url = f"http://{_HOST}:{self._port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _start(self) -> None:
        self._session = ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=_BYTES)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, self._port).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _forward(self, request: web.Request) -> web.Response:
        if not self._name:
            self._name = await asyncio.to_thread(self._find_name)
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        ]
        async with self._session.request(
            request.method,
            f"http://{self._ingress}{request.raw_path}",
            headers=[*headers, ("Host", self._name)],
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            answer_headers = [
                (name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
            ]
            return web.Response(
                status=answer.status,
                headers=[pair for pair in answer_headers if pair[0].lower() != "content-length"],
                body=await answer.read(),
            )
