"""Host name -> Service -> revision, and the loopback ports that lead there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderflow_sandbox.serving.caller import Caller
from orderflow_sandbox.serving.launch import LOOPBACK

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from orderflow_sandbox.serving.pool import Pool


@dataclass(frozen=True)
class Weighted:
    """Pools with their percents, which sum to 100."""

    pools: tuple[tuple[int, Pool], ...]

    def pick(self, roll: float) -> Pool:
        """The pool at `roll`, 0 <= roll < 100: each request rolls anew."""
        for percent, pool in self.pools:
            roll -= percent
            if roll < 0:
                return pool
        return self.pools[-1][1]


@dataclass(frozen=True)
class Entry:
    """A host name's Service; `weighted` is None until a revision has been ready."""

    service: str
    weighted: Weighted | None


def hosts(name: str, namespace: str, domain: str, *, cluster_local: bool) -> Sequence[str]:
    """The names a Service, or a tag of it, is reached by."""
    inside = f"{name}.{namespace}"
    names = [f"{inside}.svc.cluster.local", f"{inside}.svc", inside]
    return names if cluster_local else [*names, f"{inside}.{domain}"]


class Ingress:
    """Listens on loopback only."""

    def __init__(self, body_bound: int, rolls: random.Random) -> None:
        """`rolls` decides among revisions."""
        self.body_bound = body_bound
        self.callers: set[Caller] = set()
        self.closing = False
        self._rolls = rolls
        self._hosts: dict[bytes, Entry] = {}
        self._services: dict[str, Entry] = {}
        self._servers: list[asyncio.Server] = []

    def replace(self, by_host: dict[str, Entry], by_service: dict[str, Entry]) -> None:
        """Put a new routing table in place, for requests from now on."""
        self._hosts = {host.encode(): entry for host, entry in by_host.items()}
        self._services = by_service

    async def listen(self, port: int, service: str | None = None) -> int:
        """Open a port, for one Service or by Host header; the port's number."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Caller(self, service), LOOPBACK, port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def knows(self, host: bytes) -> bool:
        """Whether the name is a Service's."""
        return self._entry(host) is not None

    def pool_for(self, host: bytes, fixed: str | None) -> Pool | str:
        """Where a request goes, or why nowhere."""
        entry = self._services.get(fixed) if fixed else self._entry(host)
        if entry is None:
            return f"no Service answers to {fixed or host.decode('latin-1')!r}"
        if entry.weighted is None:
            return f"{entry.service}: no revision has been ready yet"
        pools = entry.weighted.pools
        if len(pools) == 1:
            return pools[0][1]
        return entry.weighted.pick(self._rolls.random() * 100)

    def _entry(self, host: bytes) -> Entry | None:
        return self._hosts.get(host) or self._hosts.get(host.split(b":", 1)[0].lower())

    def stop_listening(self) -> None:
        """Take no new connection, end the idle ones."""
        self.closing = True
        for server in self._servers:
            server.close()
        for caller in self.callers:
            if not caller.busy:
                caller.close()

    def close(self) -> None:
        """End what connections are left."""
        for caller in self.callers:
            caller.close()
