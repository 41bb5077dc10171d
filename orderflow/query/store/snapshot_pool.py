"""Read-only connections to PostgreSQL, each with a time limit for its statements."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed
from psycopg_pool import ConnectionPool, PoolTimeout

from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    from orderflow.settings import QuerySettings

T = TypeVar("T")
Values = dict[str, Any]
Connection = psycopg.Connection[tuple[Any, ...]]


class SnapshotPool:
    """The pool connects at the first use, so that query starts while the database is away."""

    def __init__(self, settings: QuerySettings) -> None:
        self._settings = settings
        self._pool: ConnectionPool[Connection] | None = None
        self._opening = threading.Lock()

    @contextmanager
    def snapshot(self, statement_seconds: float | None = None) -> Iterator[Connection]:
        """One consistent snapshot of the database.

        Raises TransientError where the database does not answer or a statement exceeds its time limit.
        statement_seconds replaces the limit of the settings.
        """
        pool = self._pool or self._open()
        try:
            with pool.connection() as connection:
                if statement_seconds is not None:
                    connection.execute(_time_limit(statement_seconds, "SET LOCAL"))
                yield connection
        except psycopg.errors.QueryCanceled:
            raise TransientError("this takes the database too long; narrow the request") from None
        except (PoolTimeout, psycopg.OperationalError, psycopg.InternalError) as error:
            raise TransientError(f"the database is not available: {type(error).__name__}") from error

    def _open(self) -> ConnectionPool[Connection]:
        with self._opening:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._settings.database_url.get_secret_value(),
                    connection_class=psycopg.Connection[tuple[Any, ...]],
                    kwargs={"application_name": "orderflow-query"},
                    configure=self._configure,
                    min_size=1,
                    max_size=self._settings.database_pool_size,
                    timeout=self._settings.database_wait_seconds,
                    reconnect_timeout=self._settings.database_wait_seconds,
                    open=True,
                )
        return self._pool

    def _configure(self, connection: Connection) -> None:
        connection.execute(_time_limit(self._settings.statement_seconds))
        connection.commit()
        connection.read_only = True
        connection.isolation_level = IsolationLevel.REPEATABLE_READ

    def close(self) -> None:
        with self._opening:
            if self._pool is not None:
                self._pool.close()
                self._pool = None


def _time_limit(seconds: float, command: LiteralString = "SET") -> Composed:
    return SQL("{command} statement_timeout = {milliseconds}").format(
        command=SQL(command), milliseconds=int(seconds * 1000)
    )


def fetch(
    connection: Connection, kind: type[T], statement: SQL | Composed, values: Values | None = None
) -> list[T]:
    """The rows of a statement as instances of kind, by the names of the columns."""
    return connection.cursor(row_factory=class_row(kind)).execute(statement, values).fetchall()


def all_of(conditions: list[LiteralString]) -> Composed:
    """The conditions of a WHERE clause joined with AND."""
    return SQL(" AND ").join([SQL(condition) for condition in conditions or ("true",)])
