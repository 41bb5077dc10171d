"""Runs all KafkaSources of a folder in one process, with an endpoint for their figures."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from confluent_kafka import KafkaException

from orderflow.errors import BadSettingsError
from orderflow_sandbox.delivery.dispatch import Dispatcher
from orderflow_sandbox.delivery.lag import Lag
from orderflow_sandbox.delivery.member import Member
from orderflow_sandbox.delivery.policy import Backoff
from orderflow_sandbox.delivery.records import Origin
from orderflow_sandbox.delivery.sink_client import SinkClient
from orderflow_sandbox.delivery.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow_sandbox.delivery.manifest import KafkaSource
    from orderflow_sandbox.delivery.sinks import Resolver

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """`bootstrap` replaces the manifests' bootstrapServers. `grace` is in seconds."""

    namespace: str
    bootstrap: str | None = None
    max_poll_records: int = 500
    grace: float = 30.0
    kafka: Mapping[str, Any] = field(default_factory=dict)


class RunningSource:
    """One KafkaSource with its members. The event loop must run already."""

    def __init__(self, source: KafkaSource, resolve: Resolver, options: Options) -> None:
        spec = source.spec
        secured = spec.net.sasl.enable or spec.net.tls.enable
        if secured and options.bootstrap is None and not options.kafka:
            raise BadSettingsError(
                f"{source.metadata.name}: spec.net is enabled; give its settings by --kafka-config"
            )
        self.name = source.metadata.name
        self._grace = options.grace
        namespace = source.metadata.namespace or options.namespace
        dead_letter_sink = spec.delivery.dead_letter_sink
        self._sink = SinkClient(resolve(spec.sink), namespace=namespace)
        self._dead_letters: SinkClient | None = None
        if dead_letter_sink is not None:
            self._dead_letters = SinkClient(resolve(dead_letter_sink), namespace=namespace)
        self._counts: Counter[str] = Counter()
        group = spec.consumer_group
        if group is None:
            group = f"knative-kafka-source-{uuid.uuid4()}"
            _log.warning("no consumerGroup: this run reads as a new group", extra={"source": self.name})
        subscription = Subscription(
            topics=spec.topics,
            group=group,
            initial_offset=spec.initial_offset,
            ordered=spec.ordering == "ordered",
            max_poll_records=options.max_poll_records,
            settings={
                **options.kafka,
                "bootstrap.servers": options.bootstrap or ",".join(spec.bootstrap_servers),
            },
        )
        self._lag = Lag(subscription)
        origin = Origin(namespace, self.name, dict(spec.ce_overrides.extensions))
        dispatcher = Dispatcher(
            self.name, self._sink, self._dead_letters, Backoff.of(spec.delivery), self._counts
        )
        self.members = [Member(subscription, origin, dispatcher, self._counts) for _ in range(spec.consumers)]

    def start(self) -> Self:
        for member in self.members:
            member.start()
        return self

    async def close(self) -> None:
        await asyncio.gather(*(member.close(self._grace) for member in self.members))
        self._sink.close()
        if self._dead_letters is not None:
            self._dead_letters.close()

    async def figures(self) -> dict[str, object]:
        counts = self._counts
        queues = [queue for member in self.members for queue in member.queues]
        try:
            lag = await asyncio.to_thread(self._lag.of, queues)
        except KafkaException as error:
            _log.warning("lag unknown: %s", error, extra={"source": self.name})
            lag = []
        commits = [member.committed_at for member in self.members if member.committed_at]
        last = datetime.fromtimestamp(max(commits), UTC).isoformat() if commits else None
        names = ("delivered", "retried", "dead_lettered", "dropped", "stopped", "commits")
        return {
            **{name: counts[name] for name in names},
            "in_flight": sum(member.in_flight for member in self.members),
            "last_commit": last,
            "partitions": lag,
        }


async def serve_stats(sources: Sequence[RunningSource], host: str, port: int) -> tuple[web.AppRunner, str]:
    """GET /stats gives the figures as JSON, by source. Returns the runner, for its clean-up, and the address."""

    async def stats(_: web.Request) -> web.Response:
        return web.json_response({source.name: await source.figures() for source in sources})

    app = web.Application()
    app.router.add_get("/stats", stats)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    actual = runner.addresses[0][1]
    return runner, f"http://{host}:{actual}/stats"


async def deliver(
    sources: Sequence[KafkaSource],
    resolve: Resolver,
    options: Options,
    *,
    stop: asyncio.Event,
    stats: tuple[str, int],
) -> None:
    """Runs until `stop` is set or a consumer fails for good. Its error is raised after all sources have closed."""
    running = [RunningSource(source, resolve, options).start() for source in sources]
    runner, address = await serve_stats(running, *stats)
    _log.info("ready", extra={"stats": address, "sources": [source.name for source in running]})
    ended = [member.ended for source in running for member in source.members]
    for member in ended:
        member.add_done_callback(lambda _: stop.set())
    await stop.wait()
    _log.info("stopping")
    await asyncio.gather(*(source.close() for source in running))
    await runner.cleanup()
    for member in ended:
        member.result()
    _log.info("stopped")
