"""Stages behind a real PgBouncer, in both of its modes. The module has its own PostgreSQL, which listens to TCP."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from support.databases import postgres_over_tcp
from support.events import event, paid, placed
from support.programs import program
from support.stage import ROOT, Stage
from support.waiting import until

from orderflow.domain.rules import Rules
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate.handler import validate
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.postgres import EmbeddedPostgres

ORDERS = 12
CONFIGURATION = """\
[databases]
orderflow = host=127.0.0.1 port={server} dbname=orderflow user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with postgres_over_tcp() as server:
        yield server


@contextmanager
def pgbouncer(postgres: EmbeddedPostgres, mode: str, size: int) -> Iterator[str]:
    """The database's URL through a PgBouncer. Root runs it as another user, as PgBouncer demands."""
    command = [program("pgbouncer", "REQUIRE_PGBOUNCER")]
    with psycopg.connect(postgres.url) as connection:
        server = connection.info.port
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="orderflow-") as folder:
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(CONFIGURATION.format(server=server, port=port, mode=mode, size=size))
        if os.geteuid() == 0:
            Path(folder).chmod(0o755)
            command += ["-u", "nobody"]
        process = subprocess.Popen([*command, "-q", str(file)])
        try:
            until(lambda: listens(port))
            yield f"postgresql://postgres@127.0.0.1:{port}/orderflow"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.parametrize(("mode", "size", "pooling"), [("session", 8, "false"), ("transaction", 2, "true")])
def test_track_works_behind_pgbouncer(
    mode: str, size: int, pooling: str, postgres: EmbeddedPostgres, kafka_bootstrap: str, tmp_path: Path
) -> None:
    create_order_topics(kafka_bootstrap, 4)
    orders = [f"{mode}-{number}" for number in range(ORDERS)]
    steps = [placed, event_of("packed"), event_of("shipped"), event_of("delivered")]
    with (
        pgbouncer(postgres, mode, size) as url,
        Stage(
            "track",
            tmp_path / "track.log",
            DATABASE_URL=url,
            DATABASE_TRANSACTION_POOLING=pooling,
            KAFKA_BOOTSTRAP=kafka_bootstrap,
        ) as track,
        ThreadPoolExecutor(ORDERS) as pool,
    ):
        for step in [steps[0], paid, *steps[1:]]:
            sent = [validate(step(order), Rules()) for order in orders]
            assert {answer.status_code for answer in pool.map(track.binary, sent)} == {204}
    with psycopg.connect(postgres.url) as connection:
        ends = connection.execute(
            "SELECT status, payment, version, count(*) FROM orders WHERE order_id LIKE %s GROUP BY 1, 2, 3",
            [f"{mode}-%"],
        ).fetchall()
    assert ends == [("delivered", "paid", 5, ORDERS)]


def event_of(kind: str) -> Callable[[str], CloudEvent]:
    return lambda order: event(kind, order)


@pytest.mark.parametrize(
    "command", ["functions.audit", "orderflow.commands.migrate", "orderflow.commands.resume"]
)
def test_what_takes_a_lock_of_its_session_refuses_a_pool_of_transactions(command: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        "DATABASE_TRANSACTION_POOLING": "true",
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "NOTIFICATIONS_FILE": str(ROOT / "examples/notifications.toml"),
    }
    done = subprocess.run(
        [sys.executable, "-m", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "DATABASE_TRANSACTION_POOLING: this needs a lock of its session" in done.stderr
