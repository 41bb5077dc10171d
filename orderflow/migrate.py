"""`python -m orderflow.migrate`: brings the database's schema up to date. A Job of each deployment; safe to repeat."""

from __future__ import annotations

import logging
import sys

import psycopg

from orderflow import logs, settings
from orderflow.adapters.postgres import migrate
from orderflow.wiring import or_exit

log = logging.getLogger("orderflow.migrate")


def main() -> int:
    """Exit code 0: the schema is what this image needs; 1: it is not, a repetition may cure it; 2: bad settings."""
    config = or_exit(lambda: settings.load(settings.DatabaseSettings))
    logs.configure(config.log_level, stage="migrate", revision=config.k_revision)
    try:
        applied = migrate(config.database_url.get_secret_value())
    except psycopg.Error as error:
        # Its first line has the server's address and what is wrong; no statement of ours holds data.
        log.critical("not migrated: %s", str(error).partition("\n")[0])
        return 1
    log.info("the schema is up to date; applied: %s", ", ".join(applied) or "nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
