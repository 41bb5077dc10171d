"""The address of a running sandbox, in a file of its state folder for the commands that use it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import psutil
from pydantic import BaseModel, ConfigDict

from orderflow.kn_order.local_sandbox import FILE

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK: Final = "127.0.0.1"


class SandboxError(Exception):
    """The sandbox cannot do something; the message says what to do next."""


class Address(BaseModel):
    """URLs on loopback, Kafka's bootstrap address, and PostgreSQL's URL."""

    model_config = ConfigDict(frozen=True)

    pid: int
    kafka: str
    database: str
    intake: str
    query: str
    mailbox: str
    delivery: str

    def save(self, state: Path) -> None:
        file = state / FILE
        file.touch(mode=0o600)
        file.write_text(self.model_dump_json(indent=2))

    @staticmethod
    def remove(state: Path) -> None:
        (state / FILE).unlink(missing_ok=True)


def running(state: Path) -> Address | None:
    """The sandbox that runs on this state folder now, if there is one."""
    try:
        address = Address.model_validate_json((state / FILE).read_text())
    except (OSError, ValueError):
        return None
    if address.pid == os.getpid() or not psutil.pid_exists(address.pid):
        return None
    return address


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
