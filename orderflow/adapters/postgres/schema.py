"""Whether the database has what this release's code needs: a stage does not start on a schema that is too old.

In a cluster its revision then never becomes ready and gets no event, and the one before goes on; were it to start, its
events would fail until they are dead letters.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import psycopg

from orderflow.adapters.postgres.pool import MIGRATIONS
from orderflow.errors import OldSchemaError

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.settings import DatabaseSettings

MIN_CONNECT_SECONDS: Final = 2
"""libpq takes less for more."""

log = logging.getLogger(__name__)


def needed(folder: Path = MIGRATIONS) -> list[str]:
    """The ids of the migrations that this code needs, in their sequence."""
    return sorted(file.stem for file in folder.glob("*.sql") if not file.name.endswith(".rollback.sql"))


def missing(connection: psycopg.Connection, folder: Path = MIGRATIONS) -> list[str]:
    """Those of them that the database does not have. It may have others: those of a later release."""
    try:
        rows = connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall()
    except psycopg.errors.UndefinedTable:
        rows = []
    return [migration for migration in needed(folder) if (migration,) not in rows]


def check_schema(settings: DatabaseSettings) -> None:
    """Raises OldSchemaError where the database is there and has not got what this code needs. One that is away may
    have it: that shows with the first event, and a stage must start without it."""
    try:
        with psycopg.connect(
            settings.database_url.get_secret_value(),
            autocommit=True,
            connect_timeout=max(MIN_CONNECT_SECONDS, round(settings.database_wait_seconds)),
            application_name="orderflow",
        ) as connection:
            lacking = missing(connection)
    except psycopg.Error as error:
        log.warning("the schema was not looked at", extra={"error": type(error).__name__})
        return
    if lacking:
        raise OldSchemaError(
            f"the database's schema is older than this release and lacks {', '.join(lacking)}: "
            "`python -m orderflow.commands.migrate` (the Job migrate) first"
        )
