"""The contenders: the processes of each, and the consumer groups that they are members of."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import yaml

from bench.machine import ROOT, START_SECONDS, Measured, await_true
from orderflow.messaging import topics
from orderflow_sandbox.address import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.lab import Lab


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Stage(Measured):
    """functions/<name>.py as a process, started by the command of knative/base/<name>.yaml."""

    def __init__(self, lab: Lab, name: str, **environment: str) -> None:
        self.port = free_port()
        service = yaml.safe_load((ROOT / "knative/base" / f"{name}.yaml").read_text())
        container = service["spec"]["template"]["spec"]["containers"][0]
        command = [*container["command"], *container.get("args", ())]
        replacements = {"python": sys.executable, "8080": str(self.port), "0.0.0.0": "127.0.0.1"}  # noqa: S104 - replaced
        variables = {
            "FUNCTION_SOURCE": f"functions/{name}.py",
            "FUNCTION_TARGET": name,
            "K_REVISION": f"{name}-00001",
            "PORT": str(self.port),
            "LOG_LEVEL": "WARNING",
        }
        super().__init__(
            name,
            [replacements.get(argument, argument) for argument in command],
            lab.folder / f"{name}.log",
            lab.cores,
            lab.environment() | variables | environment,
        )
        await_true(f"{name} listens at its port", START_SECONDS, lambda: _listens(self.port), self)


class Delivery(Measured):
    """The sandbox's delivery process with our KafkaSources. It delivers to the stages without an ingress between."""

    def __init__(self, lab: Lab, **stages: int) -> None:
        command = [sys.executable, "-m", "orderflow_sandbox.delivery"]
        command += ["--manifests", str(lab.manifests(*stages)), "--bootstrap", lab.bootstrap]
        for name, port in stages.items():
            command += ["--sink", f"{name}=http://127.0.0.1:{port}"]
        command += ["--log-level", "warning"]
        super().__init__("delivery", command, lab.folder / "delivery.log", lab.cores, {})


@dataclass(frozen=True, slots=True)
class Contender:
    """start() returns the measured processes by name, the one that reads Kafka first. groups has the topic of each
    consumer group."""

    name: str
    groups: Mapping[str, str]
    start: Callable[[Lab], dict[str, Measured]]


class Running:
    """A contender's processes, from start to stop."""

    def __init__(self, contender: Contender, lab: Lab) -> None:
        self.processes = contender.start(lab)
        self.consumer = next(iter(self.processes.values()))

    def cpu(self) -> dict[str, float]:
        return {name: process.cpu() for name, process in self.processes.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The consumer first, so that its events in flight still reach the stage.
        for process in self.processes.values():
            process.stop()


def _orderflow(lab: Lab, *names: str) -> dict[str, Measured]:
    stages = {name: Stage(lab, name) for name in names}
    ports = {name: stage.port for name, stage in stages.items()}
    return {"delivery": Delivery(lab, **ports), **stages}


def _peer(lab: Lab, name: str, *arguments: str) -> dict[str, Measured]:
    command = [sys.executable, "-m", f"bench.peers.{name}_track", *arguments]
    return {name: Measured(name, command, lab.folder / f"{name}.log", lab.cores, lab.environment())}


ORDERFLOW: Final = Contender(
    "Orderflow", {"orderflow-track": topics.EVENTS}, lambda lab: _orderflow(lab, "track")
)
THROUGH: Final = Contender(
    "validate -> track",
    {"orderflow-validate": topics.INBOX, "orderflow-track": topics.EVENTS},
    lambda lab: _orderflow(lab, "validate", "track"),
)
FASTSTREAM_STATEMENT: Final = Contender(
    "FastStream, one statement an event",
    {"bench-faststream-statement": topics.EVENTS},
    lambda lab: _peer(lab, "faststream", "statement"),
)
FASTSTREAM_ROWS: Final = Contender(
    "FastStream, many events a statement",
    {"bench-faststream-rows": topics.EVENTS},
    lambda lab: _peer(lab, "faststream", "rows"),
)
DBOS: Final = Contender("DBOS", {"bench-dbos": topics.EVENTS}, lambda lab: _peer(lab, "dbos"))
