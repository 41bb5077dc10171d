"""Serving as a whole: applies manifests, routes requests, scales processes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Self

from orderflow_sandbox.serving.autoscaler import TICK_SECONDS
from orderflow_sandbox.serving.control import Applied, Control, Operations
from orderflow_sandbox.serving.errors import ManifestError
from orderflow_sandbox.serving.ingress import Ingress
from orderflow_sandbox.serving.instance import PortAllocator
from orderflow_sandbox.serving.launch import launch
from orderflow_sandbox.serving.manifest import Manifests, checked_traffic
from orderflow_sandbox.serving.pool import Pool, PoolContext
from orderflow_sandbox.serving.proxy import Proxy
from orderflow_sandbox.serving.revisions import Revisions, ServiceState, Share
from orderflow_sandbox.serving.routes import Route, Routes, Weighted, hosts
from orderflow_sandbox.serving.status import InstanceStatus, RevisionStatus, ServiceStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from orderflow_sandbox.serving.options import ServingOptions
    from orderflow_sandbox.serving.service import Service, Target


class Serving:
    """An async context manager. Not thread-safe: all calls come from one event loop."""

    def __init__(self, options: ServingOptions, rng: random.Random | None = None) -> None:
        """`rng` decides between the revisions of a Service. Nothing runs before `start`."""
        self.port = 0
        self._options = options
        self._ingress = Ingress()
        self._routes = Routes(rng or random.Random())  # noqa: S311
        self._config_maps: dict[str, Mapping[str, str]] = {}
        self._revisions = Revisions.open(options.state / "serving.json")
        self._pools: dict[str, Pool] = {}
        self._context = PoolContext(
            options, PortAllocator(options.first_port), self._config_maps, self._on_ready
        )
        self._control = Control(
            Operations(self.status, self.apply, self.send_traffic), options.state / "control.json"
        )
        self._ticker: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Opens the ingress and goes on with the Services of the state folder."""
        self._options.state.mkdir(parents=True, exist_ok=True)
        self.port = await self._ingress.listen(self._options.ingress_port, self._proxy())
        await self._control.start(self._options.control_port, self.port)
        for state in self._revisions.services.values():
            self._add_pools(state)
        self._reroute()
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self, patience: float = 10.0) -> None:
        """Gives requests in flight `patience` seconds to end, and ends every process."""
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        await self._control.stop()
        self._ingress.stop_listening()
        await asyncio.gather(*(pool.stop(patience) for pool in self._pools.values()))
        await self._ingress.close()

    async def listen(self, service: str, port: int = 0) -> int:
        """Opens a loopback port for one Service and returns its number; 0 takes a free one."""
        return await self._ingress.listen(port, self._proxy(service))

    def _proxy(self, service: str | None = None) -> Proxy:
        return Proxy(self._routes, self._options.body_bound, service)

    def host(self, service: str) -> str:
        """The name at which other Services reach it."""
        return f"{service}.{self._namespace(service)}.svc.cluster.local"

    def configure(self, config_maps: Mapping[str, Mapping[str, str]]) -> None:
        """Applies ConfigMaps. As in a cluster, only processes that start later see them."""
        self._config_maps.update(config_maps)

    def apply(self, manifests: Manifests) -> list[Applied]:
        """Applies ConfigMaps and Services. Raises ManifestError; the Service that it names has not changed then."""
        self.configure(manifests.config_maps)
        return [self.apply_service(service) for service in manifests.services]

    def apply_service(self, service: Service) -> Applied:
        """Applies one Service.

        Raises ManifestError where it names a revision that does not exist, or needs a value that only a cluster has.
        """
        self._check(service)
        created = self._revisions.apply(service)
        state = self._revisions.services[service.name]
        self._add_pools(state)
        self._reroute()
        latest = state.revisions[-1].name
        self._pools[latest].forget_failures()
        return Applied(service.name, latest, created)

    def send_traffic(self, service: str, traffic: Iterable[Target]) -> tuple[Share, ...]:
        """Replaces a Service's traffic and returns the route in effect.

        Raises ManifestError where there is no such Service or revision, or the percents do not sum to 100.
        """
        state = self._revisions.services.get(service)
        if state is None:
            raise ManifestError(f"there is no Service {service}")
        state.set_traffic(checked_traffic(service, traffic))
        self._revisions.save()
        self._reroute()
        return state.route

    async def until_ready(self, deadline: float) -> None:
        """Waits until the latest revision of every Service has been ready, `deadline` seconds at most.

        Raises TimeoutError, whose message names the revisions that are not ready, and why.
        """
        end = time.monotonic() + deadline
        while missing := self._not_ready():
            if time.monotonic() > end:
                raise TimeoutError("; ".join(missing))
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 0.2)

    def status(self) -> list[ServiceStatus]:
        return [self._service_status(each) for each in self._revisions.services.values()]

    def _check(self, service: Service) -> None:
        """Raises ManifestError where a process could not start because a value is missing."""
        template = service.spec.template
        identity = (service.name, service.name)
        launch(template, identity, template.container.port, self._options, self._config_maps)

    def _not_ready(self) -> list[str]:
        latest = [
            (state.revisions[-1].name, state.revisions[-1].ready)
            for state in self._revisions.services.values()
        ]
        return [f"{name}: {self._pools[name].problem or 'starting'}" for name, ready in latest if not ready]

    def _service_status(self, state: ServiceState) -> ServiceStatus:
        return ServiceStatus(
            name=state.manifest.name,
            host=self.host(state.manifest.name),
            revisions=[self._revision_status(state, revision.name) for revision in state.revisions],
        )

    def _revision_status(self, state: ServiceState, name: str) -> RevisionStatus:
        pool = self._pools[name]
        shares = [share for share in state.route if share.revision == name]
        instances = [
            (each, phase)
            for group, phase in (
                (pool.ready, "ready"),
                (pool.starting, "starting"),
                (pool.draining, "draining"),
            )
            for each in group
        ]
        return RevisionStatus(
            name=name,
            percent=sum(share.percent for share in shares),
            tags=[share.tag for share in shares if share.tag],
            ready=pool.was_ready,
            problem=pool.problem,
            in_flight=pool.in_flight,
            queued=pool.queued,
            requests=pool.counts.requests,
            codes={str(code): count for code, count in sorted(pool.counts.codes.items())},
            cold_starts=pool.counts.cold_starts,
            instances=[
                InstanceStatus(
                    pid=each.pid,
                    port=each.port,
                    phase=phase,
                    in_flight=each.in_flight,
                    rss=each.rss(),
                    start_seconds=round(each.start_seconds, 3),
                )
                for each, phase in instances
            ],
            log=str(pool.log),
        )

    def _add_pools(self, state: ServiceState) -> None:
        for revision in state.revisions:
            if revision.name not in self._pools:
                pool = Pool(state.manifest.name, revision.name, revision.template, self._context)
                pool.was_ready = revision.ready
                self._pools[revision.name] = pool

    def _namespace(self, service: str) -> str:
        state = self._revisions.services.get(service)
        namespace = state.manifest.metadata.namespace if state else None
        return namespace or self._options.namespace

    def _on_ready(self, service: str, revision: str) -> None:
        if self._revisions.services[service].mark_ready(revision):
            self._revisions.save()
            self._reroute()
        self._changed.set()

    def _reroute(self) -> None:
        by_host: dict[str, Route] = {}
        by_service: dict[str, Route] = {}
        routed: set[str] = set()
        for name, state in self._revisions.services.items():
            for share in state.route:
                routed.add(share.revision)
                if share.tag:
                    tagged = Weighted(((100, self._pools[share.revision]),))
                    for host in self._hosts(f"{share.tag}-{name}", state):
                        by_host[host] = Route(name, tagged)
            pools = tuple(
                (share.percent, self._pools[share.revision]) for share in state.route if share.percent
            )
            route = Route(name, Weighted(pools) if pools else None)
            by_service[name] = route
            by_host |= dict.fromkeys(self._hosts(name, state), route)
        for pool in self._pools.values():
            pool.routed = pool.revision in routed
            pool.scale_for_route()
        self._routes.replace(by_host, by_service)

    def _hosts(self, name: str, state: ServiceState) -> Iterable[str]:
        return hosts(
            name,
            self._namespace(state.manifest.name),
            self._options.domain,
            cluster_local=state.manifest.cluster_local,
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS * self._options.time_scale)
            for pool in self._pools.values():
                pool.autoscale()
