"""The whole system on one machine.

Kafka and PostgreSQL are real. The stages are processes, started from the cluster's own manifests and fed as KafkaSource
does. Stand-ins receive mails and webhooks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from orderflow.adapters.postgres.schema import migrate
from orderflow.kn_order.local_sandbox import STATE as DEFAULT_STATE
from orderflow.messaging import topics
from orderflow_sandbox.address import LOOPBACK, Address, SandboxError, free_port, running
from orderflow_sandbox.servers.child import Child, Step
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.postgres import EmbeddedPostgres
from orderflow_sandbox.servers.topics import create_topics
from orderflow_sandbox.serving import Serving, ServingOptions, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

log = logging.getLogger(__name__)

ROOT: Final = Path(__file__).parents[1]
_NOTIFICATIONS: Final = """\
# Written at every start of the sandbox.
[shop]
name = "Sandbox shop"
url = "{mailbox}"

[email]
from = "orders@shop.example"
smtp_url = "smtp://127.0.0.1:{smtp}"

[[webhooks]]
name = "shop-system"
url = "{mailbox}/webhook"
secret_file = "{secret}"
allow_private = true
"""
_READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """`port` is intake's; query and the mailbox have the next two.

    `kafka` and `database` are servers to use instead of embedded ones. `keys` is the file of the API keys that intake
    and query require; without it they require none. `time_scale` stretches the autoscaler's durations: the stages scale
    to zero within seconds, and not after a minute and a half.
    """

    state: Path = DEFAULT_STATE
    port: int = 8080
    partitions: int = 32
    kafka: str | None = None
    database: str | None = None
    max_processes: int = 2
    time_scale: float = 0.2
    rules: Path = ROOT / "examples/rules.toml"
    keys: Path | None = None


class Sandbox:
    """An async context manager. All data stays in the state folder, and the next run goes on with it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.state = options.state.absolute()
        self.serving: Serving
        self.address: Address
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises SandboxError, ServerFailedError or ManifestError where a part cannot start."""
        if other := running(self.state):
            raise SandboxError(
                f"a sandbox runs already on {self.state} (process {other.pid}); stop it, or use --state"
            )
        ports = self._ports()
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            await self._start(ports)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Address.remove(self.state)
        await self._stack.aclose()

    def _ports(self) -> tuple[int, int, int]:
        first = self.options.port
        for port in (first, first + 1, first + 2):
            with closing(socket.socket()) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((LOOPBACK, port))
                except OSError:
                    raise SandboxError(
                        f"port {port} is taken; choose three others in a row with --port"
                    ) from None
        return first, first + 1, first + 2

    async def _start(self, ports: tuple[int, int, int]) -> None:
        kafka, database = await asyncio.gather(self._kafka(), self._database())
        smtp = free_port()
        self._child(
            "stand_ins",
            "--smtp-port",
            str(smtp),
            "--http-port",
            str(ports[2]),
            "--state",
            str(self.state / "stand_ins"),
        )
        intake, query, mailbox = (f"http://{LOOPBACK}:{port}" for port in ports)
        audit = free_port()
        overrides = {
            "KAFKA_BOOTSTRAP": kafka,
            "AUDIT_URL": f"http://{LOOPBACK}:{audit}",
            "DATABASE_URL": database,
            "DATABASE_URL_FILE": "",
            "RULES_FILE": str(self.options.rules.absolute()),
            "NOTIFICATIONS_FILE": str(self._notifications(smtp, mailbox)),
            "PUBLIC_URL": query,
            "API_KEYS_FILE": str(self.options.keys.absolute()) if self.options.keys else "",
            "LOCAL_RUN": "false" if self.options.keys else "true",
        }
        serving = ServingOptions(
            root=ROOT,
            state=self.state,
            overrides=overrides,
            environ={name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ},
            max_processes=self.options.max_processes,
            time_scale=self.options.time_scale,
        )
        self.serving = await self._stack.enter_async_context(Serving(serving))
        self.serving.apply(load(ROOT / "knative/base"))
        await self.serving.listen("intake", ports[0])
        await self.serving.listen("query", ports[1])
        await self.serving.listen("audit", audit)
        figures = free_port()
        self._child(
            "delivery",
            *(
                "--manifests",
                str(ROOT / "kafka-source/base"),
                "--bootstrap",
                kafka,
                "--namespace",
                "orderflow",
            ),
            *("--sink-url", f"http://{LOOPBACK}:{self.serving.port}"),
            *("--host-template", "{name}.{namespace}.svc.cluster.local", "--metrics-port", str(figures)),
        )
        try:
            await self.serving.until_ready(_READY_SECONDS)
        except TimeoutError as error:
            raise SandboxError(f"not every stage came up: {error}; see the logs in {self.state}") from None
        delivery = f"http://{LOOPBACK}:{figures}/stats"
        await _wait_until_it_answers(delivery)
        self.address = Address(
            pid=os.getpid(),
            kafka=kafka,
            database=database,
            intake=intake,
            query=query,
            mailbox=mailbox,
            delivery=delivery,
        )
        self.address.save(self.state)

    async def _kafka(self) -> str:
        bootstrap = self.options.kafka
        if bootstrap is None:
            embedded = EmbeddedKafka(self.state / "kafka")
            bootstrap = await asyncio.to_thread(embedded.start)
            self._stack.push_async_callback(asyncio.to_thread, embedded.stop)
        await asyncio.to_thread(create_order_topics, bootstrap, self.options.partitions)
        return bootstrap

    async def _database(self) -> str:
        url = self.options.database
        if url is None:
            embedded = EmbeddedPostgres(self.state / "postgres")
            url = await asyncio.to_thread(embedded.start)
            self._stack.push_async_callback(asyncio.to_thread, embedded.stop)
        await asyncio.to_thread(migrate, url)
        return url

    def _notifications(self, smtp: int, mailbox: str) -> Path:
        """Writes notify's settings, with this run's addresses of the stand-ins."""
        secret = self.state / "stand_ins" / "webhook-secret"
        file = self.state / "notifications.toml"
        file.write_text(_NOTIFICATIONS.format(smtp=smtp, mailbox=mailbox, secret=secret))
        return file

    def _child(self, module: str, *arguments: str) -> None:
        logs = self.state / "logs"
        logs.mkdir(exist_ok=True)
        command = [sys.executable, "-m", f"orderflow_sandbox.{module}", *arguments]
        child = Child(
            command,
            console=logs / f"{module}.log",
            on_orphaned=signal.SIGTERM,
            env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        )
        self._stack.push_async_callback(asyncio.to_thread, child.stop, Step(signal.SIGTERM, _STOP_SECONDS))


def create_order_topics(
    bootstrap: str, partitions: int, *, replication: int = 1, config: Mapping[str, str] | None = None
) -> None:
    """The topics as kafka/base/topics.yaml has them, as far as one machine needs it; config is for all of them.

    Raises TopicMismatchError where one exists with another number of partitions.
    """
    inbox = {"compression.type": topics.INBOX_COMPRESSION}
    larger = {"max.message.bytes": str(topics.MAX_BYTES)}
    for names, own in (
        ([topics.INBOX], inbox),
        ([topic for topic in topics.ALL if topic != topics.INBOX], larger),
    ):
        create_topics(
            bootstrap, names, partitions=partitions, replication=replication, config={**own, **(config or {})}
        )


async def _wait_until_it_answers(url: str) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientError:
                if asyncio.get_running_loop().time() > deadline:
                    raise SandboxError(
                        f"nothing answers at {url}; see the logs in the state folder"
                    ) from None
                await asyncio.sleep(0.05)
