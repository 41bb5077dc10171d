"""The pool of connections to PostgreSQL, and its errors as the stages tell them apart."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from orderflow.errors import ConflictError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderflow.settings import DatabaseSettings

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]


class Database:
    """A pool that is opened by connect() or at first use, in the worker. Statements commit on their own unless told
    otherwise."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Raises ConflictError when a statement met another's change, UnavailableError when the database is
        away, overloaded or out of space. Any other error of a statement is a fault of ours and comes through.
        """
        pool = self._pool or await self._open()
        try:
            async with pool.connection() as connection:
                yield connection
        except (psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation) as error:
            raise ConflictError(type(error).__name__) from error
        except (PoolTimeout, psycopg.OperationalError, psycopg.InternalError) as error:
            raise UnavailableError(f"the database is not available: {type(error).__name__}") from error

    async def connect(self) -> None:
        """Opens the pool before it is needed. Raises nothing where the database is away."""
        await self._open()

    async def _open(self) -> AsyncConnectionPool[Connection]:
        async with self._opening:
            if self._pool is None:
                pool = AsyncConnectionPool(
                    self._settings.database_url.get_secret_value(),
                    connection_class=psycopg.AsyncConnection[Row],
                    kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "orderflow"},
                    min_size=1,
                    max_size=self._settings.database_pool_size,
                    timeout=self._settings.database_wait_seconds,
                    reconnect_timeout=self._settings.database_wait_seconds,
                    configure=_by_key,
                    open=False,
                )
                await pool.open()
                self._pool = pool
        return self._pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


async def _by_key(connection: Connection) -> None:
    """The stages' statements all go by key. A plan that was kept from when a table was still small may
    read the whole of it instead, until autovacuum has looked at the table: with 20,000 rows in the ledger
    that is ten times the work."""
    await connection.execute("SET enable_seqscan = off")
