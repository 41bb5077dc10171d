"""The pool of connections to PostgreSQL. It translates PostgreSQL's errors into the stages' errors."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from orderflow.adapters.postgres.connection import ABORT_SECONDS, abort, bounded, limits, parameters
from orderflow.errors import ConflictError, OrderflowError, PoisonError, Reason, TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderflow.settings import DatabaseSettings

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]

CHECK_SECONDS: Final = 5.0
"""A firewall may have forgotten a connection that was idle for longer."""
_POISON_CLASSES: Final = frozenset({"22", "23", "54"})
"""SQLSTATE classes of errors that a statement's values cause: data exceptions, integrity constraints, program limits.
No repetition helps."""


class Database:
    """A pool of connections in autocommit mode. It opens with connect() or at first use, in the worker, because
    connections do not survive a fork."""

    def __init__(self, settings: DatabaseSettings, *, check_seconds: float = CHECK_SECONDS) -> None:
        """A connection that was idle for longer than check_seconds is checked before it is used."""
        self._settings = settings
        self._check_seconds = check_seconds
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._open_lock = asyncio.Lock()
        self._used_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._failed_at = -math.inf

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Raises ConflictError where a statement collided with another transaction's change, PoisonError where the
        database refuses the values of a statement, TransientError where the database is away, overloaded or out of
        space, or does not answer in time. Any other error is a fault of ours and is not translated."""
        pool = self._pool or await self._open()
        seconds = self._settings.database_statement_seconds + ABORT_SECONDS
        try:
            async with pool.connection() as connection:
                try:
                    with bounded(connection, seconds, self._abort):
                        yield connection
                finally:
                    self._used_at[connection] = time.monotonic()
        except (PoolTimeout, psycopg.Error) as error:
            if (translation := translated(error)) is None:
                raise
            raise translation from error

    async def connect(self) -> None:
        """Opens the pool before it is needed. Raises nothing where the database is away."""
        await self._open()

    async def _open(self) -> AsyncConnectionPool[Connection]:
        async with self._open_lock:
            if self._pool is None:
                settings = self._settings
                pool = AsyncConnectionPool(
                    "",
                    connection_class=psycopg.AsyncConnection[Row],
                    kwargs=parameters(settings) | {"autocommit": True, "row_factory": dict_row},
                    min_size=1,
                    max_size=settings.database_pool_size,
                    timeout=settings.database_wait_seconds,
                    reconnect_timeout=settings.database_wait_seconds,
                    configure=self._configure,
                    check=self._check,
                    open=False,
                )
                await pool.open()
                self._pool = pool
        return self._pool

    async def _configure(self, connection: Connection) -> None:
        # Every statement of the stages looks rows up by key. A plan from the time when a table was small may scan the
        # whole table until autovacuum has analysed it: with 20,000 rows in the ledger that is ten times the work.
        statement = limits(self._settings, self._settings.database_statement_seconds, enable_seqscan="off")
        if statement is not None:
            await connection.execute(*statement)
        self._used_at[connection] = time.monotonic()

    async def _check(self, connection: Connection) -> None:
        """Raises psycopg.OperationalError where the connection is broken. The pool then takes another one."""
        used_at = self._used_at.get(connection, -math.inf)
        if used_at > max(self._failed_at, time.monotonic() - self._check_seconds):
            return
        with bounded(connection, ABORT_SECONDS):
            await AsyncConnectionPool.check_connection(connection)

    def _abort(self, connection: Connection) -> None:
        """What happened to one connection may have happened to all: from now on each is checked at its next use."""
        self._failed_at = time.monotonic()
        abort(connection)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


def translated(error: Exception) -> OrderflowError | None:
    """The stages' error for an error of psycopg or of its pool; None where it is a fault of ours."""
    if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.UniqueViolation):
        return ConflictError(type(error).__name__)
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate[:2] in _POISON_CLASSES:
        return PoisonError(
            Reason("not_storable", "", f"the database does not store this event: {type(error).__name__}")
        )
    if isinstance(error, PoolTimeout | psycopg.OperationalError | psycopg.InternalError):
        return TransientError(f"the database is not available: {type(error).__name__}")
    return None
