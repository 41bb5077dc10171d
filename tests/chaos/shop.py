"""A shop of its own: the sandbox's servers, Serving, delivery and stand-ins, each within reach of a fault."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from orderflow.adapters.postgres.schema import migrate
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.nodes import Quorum, choose_ports, new_cluster_id
from orderflow_sandbox.servers.postgres import EmbeddedPostgres
from orderflow_sandbox.serving import Serving, ServingOptions
from tests.chaos import manifests
from tests.chaos.delivery import Delivery
from tests.chaos.stand_ins import StandIns
from tests.chaos.waiting import until

PARTITIONS = 8
CLAIM_SECONDS = 10
_MOST_PROCESSES = 8
_STOP_SECONDS = 20.0


class Shop:
    """Use as an async context manager."""

    def __init__(self, state: Path, *, brokers: int = 1, partitions: int = PARTITIONS) -> None:
        self.state = state
        self.partitions = partitions
        self.triggers = state / "triggers"
        self.brokers = _cluster(state / "kafka", brokers)
        self._database_port = free_port()
        self.postgres = EmbeddedPostgres(
            state / "postgres", settings={"listen_addresses": "127.0.0.1", "port": str(self._database_port)}
        )
        self.stand_ins = StandIns(state / "stand_ins")
        self.serving: Serving
        self.delivery: Delivery
        self.intake = ""
        self._stack = AsyncExitStack()

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers)

    @property
    def database(self) -> str:
        """Over TCP, as in a cluster: packets can vanish there."""
        return f"postgresql://postgres@127.0.0.1:{self._database_port}/orderflow"

    async def __aenter__(self) -> Self:
        self.triggers.mkdir(parents=True)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        for server in (*self.brokers, self.postgres):
            self._stack.push_async_callback(asyncio.to_thread, server.stop)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in (*self.brokers, self.postgres)))
        await asyncio.to_thread(self._create_topics)
        await asyncio.to_thread(migrate, self.database)
        await self._stack.enter_async_context(self.stand_ins)
        self.serving = await self._stack.enter_async_context(Serving(self._serving_options()))
        for each in manifests.all_stages():
            self.serving.apply(each)
        self.intake = f"http://127.0.0.1:{await self.serving.listen('intake', 0)}"
        await self.serving.until_ready(60)
        self.delivery = Delivery(self.state, self.bootstrap, f"http://127.0.0.1:{self.serving.port}")
        self._stack.push_async_callback(self.delivery.stop_all)
        await self.delivery.start()

    def _create_topics(self) -> None:
        if len(self.brokers) == 1:
            create_order_topics(self.bootstrap, self.partitions)
            return
        create_order_topics(
            self.bootstrap,
            self.partitions,
            replication=len(self.brokers),
            config={"min.insync.replicas": "2"},
        )

    def environment(self) -> dict[str, str]:
        """What every stage, and the audit, is told of the servers."""
        return {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "DATABASE_URL": self.database,
            "DATABASE_URL_FILE": "",
            "RULES_FILE": str(manifests.ROOT / "examples/rules.toml"),
            "NOTIFICATIONS_FILE": str(self.stand_ins.notifications_file),
            "CLAIM_SECONDS": str(CLAIM_SECONDS),
        }

    def _serving_options(self) -> ServingOptions:
        return ServingOptions(
            root=manifests.ROOT,
            state=self.state,
            overrides=self.environment()
            | {"API_KEYS_FILE": "", "LOCAL_RUN": "true", "CHAOS_TRIGGERS": str(self.triggers)},
            environ={name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ},
            max_processes=_MOST_PROCESSES,
            time_scale=0.1,
        )

    async def apply(self, stage: str, *, faulty: bool = False, processes: int = 0) -> None:
        """Makes a revision and waits until all traffic of the stage goes to it."""
        self.serving.apply(manifests.service(stage, faulty=faulty, processes=processes))
        await self.serving.until_ready(60)
        await until(
            lambda: len(self.instances(stage)) >= processes, f"{processes} processes of {stage}", seconds=90
        )

    def instances(self, stage: str) -> list[tuple[int, int]]:
        """(pid, port) of each process that takes the stage's traffic now."""
        (service,) = (each for each in self.serving.status() if each.name == stage)
        return [
            (instance.pid, instance.port)
            for revision in service.revisions
            if revision.percent
            for instance in revision.instances
            if instance.phase == "ready"
        ]

    def deliveries(self) -> int:
        """How many requests the stages behind a KafkaSource have had."""
        behind = {"validate", "track", "notify", "shelve"}
        services = (each for each in self.serving.status() if each.name in behind)
        return sum(revision.requests for service in services for revision in service.revisions)


async def kill(server: EmbeddedKafka | EmbeddedPostgres) -> None:
    """kill -9 of the server's process; returns when it is gone."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: server.pid is None, "the end of a killed server")


def _cluster(state: Path, nodes: int) -> list[EmbeddedKafka]:
    if nodes == 1:
        return [EmbeddedKafka(state)]
    ports = {number: choose_ports() for number in range(1, nodes + 1)}
    quorum = Quorum(new_cluster_id(), {number: each.controller for number, each in ports.items()})
    return [
        EmbeddedKafka(state / str(number), node_id=number, ports=each, quorum=quorum)
        for number, each in ports.items()
    ]
