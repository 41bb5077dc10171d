"""`python -m orderflow.commands.migrate`: brings the database's schema up to date.

Run as a Job on each deployment. Idempotent, and safe while this and the previous release are running.
"""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

import psycopg

from orderflow import logs, settings
from orderflow.adapters.postgres.schema import migrate, missing_migrations
from orderflow.startup import or_exit
from orderflow.version import add_option

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("orderflow.commands.migrate")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orderflow.commands.migrate",
        description="Brings the database that DATABASE_URL or DATABASE_URL_FILE names to this release's schema.",
        epilog="Exit code 0: the schema is what this release needs; 1: it is not, run the command again;"
        " 2: wrong usage or bad settings.",
    )
    parser.add_argument("--check", action="store_true", help="only list the missing migrations")
    add_option(parser)
    options = parser.parse_args(arguments)
    config = or_exit(lambda: settings.load_with_session(settings.DatabaseSettings))
    logs.configure(config.log_level, stage="migrate", revision=config.k_revision)
    url = config.database_url.get_secret_value()
    try:
        return _check(url) if options.check else _migrate(url)
    except psycopg.errors.LockNotAvailable:
        log.critical(
            "not migrated: another transaction holds a table, and stages would wait behind the migration; run it again"
        )
    except psycopg.Error as error:
        # The first line has the server's address and the cause. No migration has data in its statements.
        log.critical("not migrated: %s", str(error).partition("\n")[0])
    return 1


def _migrate(url: str) -> int:
    applied = migrate(url)
    log.info("the schema is up to date; applied: %s", ", ".join(applied) or "nothing")
    return 0


def _check(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        missing = missing_migrations(connection)
    if missing:
        log.warning("the schema lacks: %s", ", ".join(missing))
        return 1
    log.info("the schema is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
