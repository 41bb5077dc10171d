"""Read-only connections to PostgreSQL, each with a time limit for its statements."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed
from psycopg_pool import ConnectionPool, PoolTimeout

from orderflow.adapters.postgres.connection import ABORT_SECONDS, abort, limits, parameters
from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    from orderflow.settings import QuerySettings

T = TypeVar("T")
Values = dict[str, Any]
Connection = psycopg.Connection[tuple[Any, ...]]

_WATCH_SECONDS: Final = 0.5


class SnapshotPool:
    """The pool connects at the first use, so that query starts while the database is away."""

    def __init__(self, settings: QuerySettings) -> None:
        self._settings = settings
        self._pool: ConnectionPool[Connection] | None = None
        self._opening = threading.Lock()
        self._deadlines: dict[Connection, float] = {}
        self._closed = threading.Event()

    @contextmanager
    def snapshot(self, statement_seconds: float | None = None) -> Iterator[Connection]:
        """One consistent snapshot of the database.

        Raises TransientError where the database does not answer or a statement exceeds its time limit.
        statement_seconds replaces the limit of the settings.
        """
        pool = self._pool or self._open()
        seconds = statement_seconds or self._settings.database_statement_seconds
        try:
            with pool.connection() as connection, self._bounded(connection, seconds):
                if statement_seconds is not None:
                    connection.execute(_time_limit(statement_seconds))
                yield connection
        except psycopg.errors.QueryCanceled:
            raise TransientError("this takes the database too long; narrow the request") from None
        except (PoolTimeout, psycopg.OperationalError, psycopg.InternalError) as error:
            raise TransientError(f"the database is not available: {type(error).__name__}") from error

    @contextmanager
    def _bounded(self, connection: Connection, seconds: float) -> Iterator[None]:
        """For a server that does not answer: the watching thread ends the connection. A snapshot has a few statements,
        each with the limit."""
        self._deadlines[connection] = time.monotonic() + 3 * seconds + ABORT_SECONDS
        try:
            yield
        finally:
            self._deadlines.pop(connection, None)

    def _watch(self) -> None:
        while not self._closed.wait(_WATCH_SECONDS):
            now = time.monotonic()
            for connection, deadline in list(self._deadlines.items()):
                if now > deadline:
                    abort(connection)

    def _open(self) -> ConnectionPool[Connection]:
        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    "",
                    connection_class=psycopg.Connection[tuple[Any, ...]],
                    kwargs=parameters(self._settings, "orderflow-query"),
                    configure=self._configure,
                    check=self._check,
                    min_size=1,
                    max_size=self._settings.database_pool_size,
                    timeout=self._settings.database_wait_seconds,
                    reconnect_timeout=self._settings.database_wait_seconds,
                    open=True,
                )
                threading.Thread(target=self._watch, name="database-watch", daemon=True).start()
        return self._pool

    def _configure(self, connection: Connection) -> None:
        statement = limits(self._settings, self._settings.database_statement_seconds)
        if statement is not None:
            connection.execute(*statement)
            connection.commit()
        connection.read_only = True
        connection.isolation_level = IsolationLevel.REPEATABLE_READ

    def _check(self, connection: Connection) -> None:
        with self._bounded(connection, 0):
            ConnectionPool.check_connection(connection)

    def close(self) -> None:
        with self._opening:
            if self._pool is not None:
                self._closed.set()
                self._pool.close()
                self._pool = None


def _time_limit(seconds: float) -> Composed:
    return SQL("SET LOCAL statement_timeout = {milliseconds}").format(milliseconds=int(seconds * 1000))


def fetch(
    connection: Connection, kind: type[T], statement: SQL | Composed, values: Values | None = None
) -> list[T]:
    """The rows of a statement as instances of kind, by the names of the columns."""
    return connection.cursor(row_factory=class_row(kind)).execute(statement, values).fetchall()


def all_of(conditions: list[LiteralString]) -> Composed:
    """The conditions of a WHERE clause joined with AND."""
    return SQL(" AND ").join([SQL(condition) for condition in conditions or ("true",)])
