"""The routing table: host name -> Service -> revision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderflow_sandbox.serving.errors import RefusedError

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from orderflow_sandbox.serving.pool import Pool


@dataclass(frozen=True)
class Weighted:
    """Pools with their percents, which sum to 100."""

    pools: tuple[tuple[int, Pool], ...]

    def pick(self, roll: float) -> Pool:
        """The pool at `roll`, 0 <= roll < 100."""
        for percent, pool in self.pools:
            roll -= percent
            if roll < 0:
                return pool
        return self.pools[-1][1]


@dataclass(frozen=True)
class Route:
    """The pools for a Service's requests; `weighted` is None until a revision has been ready."""

    service: str
    weighted: Weighted | None


def hosts(name: str, namespace: str, domain: str, *, cluster_local: bool) -> Sequence[str]:
    """The host names of a Service or of one of its tags."""
    inside = f"{name}.{namespace}"
    names = [f"{inside}.svc.cluster.local", f"{inside}.svc", inside]
    return names if cluster_local else [*names, f"{inside}.{domain}"]


class Routes:
    """`rng` decides between the revisions of a Service, anew for each request."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._by_host: dict[bytes, Route] = {}
        self._by_service: Mapping[str, Route] = {}

    def replace(self, by_host: Mapping[str, Route], by_service: Mapping[str, Route]) -> None:
        """The table for requests from now on."""
        self._by_host = {host.encode(): route for host, route in by_host.items()}
        self._by_service = by_service

    def pool_for(self, host: bytes, service: str | None) -> Pool:
        """The pool for a request. Without `service` the Host header decides.

        Raises RefusedError: 404 where the name is no Service's, 503 where none of its revisions has been ready.
        """
        if service is not None:
            route = self._by_service.get(service)
            missing = 503
        else:
            route = self._by_host.get(host) or self._by_host.get(host.split(b":", 1)[0].lower())
            missing = 404
        if route is None:
            raise RefusedError(missing, f"no Service answers to {service or host.decode('latin-1')!r}")
        if route.weighted is None:
            raise RefusedError(503, f"{route.service}: no revision has been ready yet")
        pools = route.weighted.pools
        if len(pools) == 1:
            return pools[0][1]
        return route.weighted.pick(self._rng.random() * 100)
