"""The loopback ports of Serving. uvicorn serves them, in the sandbox's own event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from orderflow_sandbox.serving.launch import LOOPBACK

if TYPE_CHECKING:
    from orderflow_sandbox.serving.proxy import Proxy

# As Envoy does, which is a cluster's ingress.
_IDLE_SECONDS: Final = 3600
_LAST_ANSWERS_SECONDS: Final = 1.0


class Ingress:
    """One or more ports, each with an ASGI application of its own."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._state = ServerState()

    async def listen(self, port: int, application: Proxy) -> int:
        """Opens a port and returns its number; 0 takes a free one."""
        config = uvicorn.Config(
            application,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            timeout_keep_alive=_IDLE_SECONDS,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            access_log=False,
            log_config=None,
            # uvicorn logs a stream that ends early as an error. Here that means that its time was up.
            log_level="critical",
        )
        config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: HttpToolsProtocol(config, self._state, {}), LOOPBACK, port, backlog=config.backlog
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Accepts no new connection. Idle connections end now, the others after their response."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def close(self) -> None:
        """Ends the remaining connections."""
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_LAST_ANSWERS_SECONDS)
        for connection in list(self._state.connections):
            connection.transport.close()
