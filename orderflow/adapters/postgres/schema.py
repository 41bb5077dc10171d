"""The database's schema: its migrations, and the check that a stage makes before it starts.

A stage does not start on an outdated schema. In a cluster its revision then never becomes ready and gets no event, and
the previous revision goes on. If the stage started, its events would fail until they became dead letters.
"""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from orderflow.errors import OldSchemaError

if TYPE_CHECKING:
    from orderflow.settings import DatabaseSettings

MIGRATIONS: Final = Path(__file__).parent / "migrations"
MIGRATION_LOCK: Final = 0x0F10
"""Key of pg_advisory_lock: any number that no other program takes in this database."""
RETRY_SECONDS: Final = 0.1
LOCK_SECONDS: Final = 2
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


def migrate(database_url: str, folder: Path = MIGRATIONS) -> list[str]:
    """Brings the schema up to date; returns the ids of the migrations that it applied.

    Safe to run twice at once: the lock is PostgreSQL's own, for yoyo's is a row that outlives whoever was killed
    with it. Safe to kill: a migration and the note that it was applied are one transaction, where yoyo's own
    apply_migrations makes two, and one that was killed between them could never be repeated. What cannot be in a
    transaction says `-- transactional: false`, and is so written that it may be repeated.

    Safe beside stages that work: a statement that would wait for a table longer than LOCK_SECONDS, and hold up all who
    come after it, gives up. Raises psycopg.errors.LockNotAvailable then.
    """
    from yoyo import get_backend, read_migrations

    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", database_url)
    with psycopg.connect(database_url, autocommit=True) as one_at_a_time:
        _acquire_lock(one_at_a_time)
        backend = get_backend(url)
        try:
            migrations = backend.to_apply(read_migrations(str(folder)))
            backend.ensure_internal_schema_updated()
            for migration in migrations:
                _apply(backend, migration)
            return [migration.id for migration in migrations]
        finally:
            backend.connection.close()


def _acquire_lock(connection: psycopg.Connection) -> None:
    """Asks again and again: a statement that waits keeps its snapshot, and CREATE INDEX CONCURRENTLY, which another
    may be at, waits for whoever has one. Each would wait for the other, for ever."""
    while connection.execute("SELECT pg_try_advisory_lock(%s)", [MIGRATION_LOCK]).fetchone() != (True,):
        time.sleep(RETRY_SECONDS)


def _apply(backend: Any, migration: Any) -> None:  # noqa: ANN401 - yoyo has no types
    migration.load()
    if not migration.use_transactions:
        # It stands in nobody's way however long it waits, so there is no limit to that.
        migration.process_steps(backend, "apply")
    with backend.transaction():
        if migration.use_transactions:
            backend.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            migration.process_steps(backend, "apply")
        # yoyo's log wants the user's name, and a container's user has none.
        backend.mark_one(migration, log=False)
