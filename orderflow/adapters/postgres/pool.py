"""The pool of connections to PostgreSQL. It translates PostgreSQL's errors into the stages' errors."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from orderflow.errors import ConflictError, TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderflow.settings import DatabaseSettings

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]


class Database:
    """A pool of connections in autocommit mode. It opens with connect() or at first use, in the worker, because
    connections do not survive a fork."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._open_lock = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Raises ConflictError where a statement collided with another transaction's change, TransientError where
        the database is away, overloaded or out of space. Any other error is a fault of ours and is not translated."""
        pool = self._pool or await self._open()
        try:
            async with pool.connection() as connection:
                yield connection
        except (psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation) as error:
            raise ConflictError(type(error).__name__) from error
        except (PoolTimeout, psycopg.OperationalError, psycopg.InternalError) as error:
            raise TransientError(f"the database is not available: {type(error).__name__}") from error

    async def connect(self) -> None:
        """Opens the pool before it is needed. Raises nothing where the database is away."""
        await self._open()

    async def _open(self) -> AsyncConnectionPool[Connection]:
        async with self._open_lock:
            if self._pool is None:
                pool = AsyncConnectionPool(
                    self._settings.database_url.get_secret_value(),
                    connection_class=psycopg.AsyncConnection[Row],
                    kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "orderflow"},
                    min_size=1,
                    max_size=self._settings.database_pool_size,
                    timeout=self._settings.database_wait_seconds,
                    reconnect_timeout=self._settings.database_wait_seconds,
                    configure=_disable_sequential_scans,
                    open=False,
                )
                await pool.open()
                self._pool = pool
        return self._pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


async def _disable_sequential_scans(connection: Connection) -> None:
    """Every statement of the stages looks rows up by key. A plan from the time when a table was small may scan the
    whole table until autovacuum has analysed the table: with 20,000 rows in the ledger that is ten times the work."""
    await connection.execute("SET enable_seqscan = off")
