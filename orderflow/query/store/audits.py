"""Runs of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row

if TYPE_CHECKING:
    from orderflow.query.store.snapshot_pool import Connection

LAST: Final = """
SELECT id::text AS id, started_at, finished_at, state, report FROM audit_runs ORDER BY started_at DESC LIMIT 1
"""
LAST_FINISHED: Final = """
SELECT finished_at, state, report FROM audit_runs WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
"""


def last(connection: Connection) -> dict[str, Any] | None:
    """The last run, whether it has finished or not."""
    return connection.cursor(row_factory=dict_row).execute(LAST).fetchone()


def last_finished(connection: Connection) -> dict[str, Any] | None:
    return connection.cursor(row_factory=dict_row).execute(LAST_FINISHED).fetchone()
