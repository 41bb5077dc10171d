"""The servers that the pipeline needs and a test cluster lacks: Kafka, PostgreSQL, a mail server and a webhook
receiver. They are processes of this machine at an address that pods reach."""

import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from orderflow_sandbox.sandbox import ROOT, create_order_topics
from orderflow_sandbox.servers.child import Child, Step
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.postgres import EmbeddedPostgres
from tests.cluster.kube import ClusterError

_ROLE = "orderflow"
_HBA = """\
local all all trust
host orderflow orderflow 0.0.0.0/0 scram-sha-256
"""
_SECONDS = 60.0


class Servers:
    """Use as a context manager. host is an address of this machine; partitions is the number for each order topic.

    bootstrap and database_url are for pods. admin_url is the database's address for this machine.
    """

    def __init__(self, state: Path, host: str, partitions: int) -> None:
        self.state = state
        self.host = host
        self._partitions = partitions
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.state.mkdir(parents=True, exist_ok=True)
        with ExitStack() as starting:
            self.bootstrap = starting.enter_context(
                EmbeddedKafka(self.state / "kafka", host=self.host)
            ).bootstrap
            create_order_topics(self.bootstrap, self._partitions)
            self._database(starting)
            self._start_stand_ins(starting)
            self._stack = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _database(self, starting: ExitStack) -> None:
        rules = self.state / "pg_hba.conf"
        rules.write_text(_HBA)
        port = free_port(self.host)
        postgres = starting.enter_context(
            EmbeddedPostgres(
                self.state / "postgres",
                settings={"listen_addresses": self.host, "port": str(port), "hba_file": str(rules)},
            )
        )
        self.admin_url = postgres.url
        password = secrets.token_urlsafe()
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            role = sql.Identifier(_ROLE)
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [_ROLE]).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password))
            connection.execute(statement)
            connection.execute(sql.SQL("ALTER DATABASE orderflow OWNER TO {}").format(role))
        self.database_url = f"postgresql://{_ROLE}:{password}@{self.host}:{port}/orderflow"

    def _start_stand_ins(self, starting: ExitStack) -> None:
        smtp, http = free_port(self.host), free_port(self.host)
        folder = self.state / "stand_ins"
        command = [
            *(
                sys.executable,
                "-m",
                "orderflow_sandbox.stand_ins",
                "--state",
                str(folder),
                "--host",
                self.host,
            ),
            *("--smtp-port", str(smtp), "--http-port", str(http)),
        ]
        child = Child(
            command,
            console=self.state / "stand_ins.log",
            on_orphaned=signal.SIGTERM,
            env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        )
        starting.callback(child.stop, Step(signal.SIGTERM, 10.0))
        self.smtp = f"smtp://{self.host}:{smtp}"
        self.mailbox = f"http://{self.host}:{http}"
        self.webhook_secret = folder / "webhook-secret"
        _until_answers(self.mailbox, child)


def free_port(host: str) -> int:
    """A port of host on which no process listens. Raises ClusterError where host is no address of this machine."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ClusterError(f"HOST={host} is no address of this machine: {error.strerror}") from None
        port: int = probe.getsockname()[1]
    return port


def _until_answers(url: str, child: Child) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            if not child.alive or time.monotonic() > deadline:
                raise ClusterError("the mailbox did not start") from None
            time.sleep(0.1)
        else:
            return
