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

from orderflow.adapters.postgres.connection import parameters
from orderflow.errors import SchemaOutdatedError

if TYPE_CHECKING:
    from orderflow.settings import DatabaseSettings

MIGRATIONS: Final = Path(__file__).parent / "migrations"
MIGRATION_LOCK: Final = 0x0F10
"""Key of pg_advisory_lock: any number that no other program uses in this database."""
RETRY_SECONDS: Final = 0.1
LOCK_SECONDS: Final = 2

log = logging.getLogger(__name__)


def required_migrations(folder: Path = MIGRATIONS) -> list[str]:
    """The ids of the migrations that this code needs, in their sequence."""
    return sorted(file.stem for file in folder.glob("*.sql") if not file.name.endswith(".rollback.sql"))


def missing_migrations(connection: psycopg.Connection, folder: Path = MIGRATIONS) -> list[str]:
    """The required migrations that the database lacks. The database may have further ones, of a later release."""
    try:
        rows = connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall()
    except psycopg.errors.UndefinedTable:
        rows = []
    return [migration for migration in required_migrations(folder) if (migration,) not in rows]


def check_schema(settings: DatabaseSettings) -> None:
    """Raises SchemaOutdatedError where the database lacks a migration that this code needs.

    Raises nothing where the database is away, because a stage must start without it: the first event that needs the
    database then fails.
    """
    try:
        with psycopg.connect(**parameters(settings), autocommit=True) as connection:
            missing = missing_migrations(connection)
    except psycopg.Error as error:
        log.warning("the schema was not checked", extra={"error": type(error).__name__})
        return
    if missing:
        raise SchemaOutdatedError(
            f"the database's schema is older than this release and lacks {', '.join(missing)}: "
            "`python -m orderflow.commands.migrate` (the Job migrate) first"
        )


def migrate(database_url: str, folder: Path = MIGRATIONS) -> list[str]:
    """Brings the schema up to date; returns the ids of the migrations that it applied.

    It is safe to run it twice at the same time: the lock is PostgreSQL's own. (yoyo's lock is a row, which stays when
    its holder is killed.) It is safe to kill it: a migration and the note that it was applied are one transaction.
    (yoyo's apply_migrations makes two transactions; a migration that was killed between them could never be repeated.)
    A migration that cannot run in a transaction says `-- transactional: false` and must be repeatable.

    It is safe to run it while stages work: a statement that waits for a table longer than LOCK_SECONDS gives up,
    because every later statement on that table would wait behind it. Raises psycopg.errors.LockNotAvailable then.
    """
    from yoyo import get_backend, read_migrations

    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", database_url)
    with psycopg.connect(database_url, autocommit=True) as lock_connection:
        _acquire_lock(lock_connection)
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
    """Polls for the lock. A waiting pg_advisory_lock() would keep its snapshot, and CREATE INDEX CONCURRENTLY in the
    process that has the lock waits for every snapshot, so the two would wait for each other."""
    while connection.execute("SELECT pg_try_advisory_lock(%s)", [MIGRATION_LOCK]).fetchone() != (True,):
        time.sleep(RETRY_SECONDS)


def _apply(backend: Any, migration: Any) -> None:  # noqa: ANN401 - yoyo has no types
    migration.load()
    if not migration.use_transactions:
        # It blocks no other statement while it waits, so it has no time limit.
        migration.process_steps(backend, "apply")
    with backend.transaction():
        if migration.use_transactions:
            backend.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            migration.process_steps(backend, "apply")
        # yoyo's log needs the user's name, which a container's user does not have.
        backend.mark_one(migration, log=False)
