"""The nodes of a Kafka cluster on this machine: who votes, where each listens, and the file that remembers it."""

from __future__ import annotations

import base64
import json
import random
import socket
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from orderflow_sandbox.servers.errors import ServerFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOOPBACK = "127.0.0.1"
# Below the range that the kernel takes for outgoing connections (32768 up on Linux), so that no connection occupies the
# broker's port between two runs.
_PORTS = range(20_000, 32_000)
_MAX_REPLICATION = 3


@dataclass(frozen=True, slots=True)
class Quorum:
    """The nodes of one cluster. All are formatted with `cluster_id`.

    `voters` maps a node id to its controller's port on 127.0.0.1.
    """

    cluster_id: str
    voters: Mapping[int, int]

    @property
    def replication(self) -> int:
        """The number of copies of Kafka's own topics: one per node, at most 3."""
        return min(_MAX_REPLICATION, len(self.voters))


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a node: the broker's on the node's host, the controller's on 127.0.0.1."""

    broker: int
    controller: int


@dataclass(frozen=True, slots=True)
class Address:
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
            raise ServerFailedError(
                f"{file} is damaged ({error}); it names the cluster id of the data beside it"
            ) from error

    def write(self, file: Path) -> None:
        whole = file.with_suffix(".new")
        stored = {
            "cluster_id": self.cluster_id,
            "broker": self.ports.broker,
            "controller": self.ports.controller,
        }
        whole.write_text(json.dumps(stored, indent=2) + "\n")
        whole.replace(file)


def new_cluster_id() -> str:
    """A random id in Kafka's form: a UUID in URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def choose_ports(host: str = LOOPBACK) -> Ports:
    """Two ports on which nothing listens: the broker's at `host`, the controller's at 127.0.0.1."""
    ports = random.sample(_PORTS, len(_PORTS))
    broker = next(port for port in ports if _unused(port, host))
    return Ports(broker=broker, controller=next(port for port in ports if port != broker and _unused(port)))


def are_free(ports: Ports, host: str) -> bool:
    return _unused(ports.broker, host) and _unused(ports.controller)


def _unused(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        # As the JVM binds: a closed connection in TIME_WAIT does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
