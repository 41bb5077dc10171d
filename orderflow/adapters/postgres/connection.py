"""The parameters of every connection to PostgreSQL. They bound whatever may wait for the network or for the server."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from psycopg.conninfo import conninfo_to_dict

from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import LiteralString

    import psycopg

    from orderflow.settings import DatabaseSettings

_MIN_CONNECT_SECONDS: Final = 2
"""libpq's connect_timeout is in whole seconds: 0 means no limit, and libpq treats 1 as 2."""
_PREPARE_THRESHOLD: Final = 5
ABORT_SECONDS: Final = 2.0
"""How much longer than the server's own limit a use of a connection may take."""
_TCP: Final = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
"""A connection that a firewall has forgotten is noticed after 20 seconds of silence. Linux alone would wait for two
hours."""
_USER_TIMEOUT_MS: Final = 10_000
"""How long sent data may stay without a TCP acknowledgement. Linux alone would repeat it for a quarter of an hour."""
_SESSION: Final = {
    "lock_timeout": "5s",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "10s",
    "client_connection_check_interval": "5s",
}
"""Lets the server notice a client that vanished, so that it holds no lock for long."""
_OPTION: Final = re.compile(r"-c\s*(\w+)=|--([\w-]+)=")
_REFUSALS: Final = {
    r'FATAL: +database ".*" does not exist': "DATABASE_URL names a database that does not exist",
    r'FATAL: +role ".*" does not exist': "DATABASE_URL names a user that does not exist",
    r"FATAL: +password authentication failed": "the server refuses the password in DATABASE_URL",
    r"FATAL: +no pg_hba\.conf entry": "the server's pg_hba.conf does not allow the connection",
}
"""What the server says where it refuses a connection, for which psycopg has no SQLSTATE. The server's own words quote
names, and they are not passed on."""
_SET: Final = (
    "SELECT count(set_config(name, value, false)) FROM unnest(%s::text[], %s::text[]) AS s (name, value)"
)


def parameters(settings: DatabaseSettings, application_name: str = "orderflow") -> dict[str, Any]:
    """The arguments of psycopg's connect(). What the URL says takes precedence."""
    return {
        "connect_timeout": max(_MIN_CONNECT_SECONDS, round(settings.database_wait_seconds)),
        "tcp_user_timeout": _USER_TIMEOUT_MS,
        "application_name": application_name,
        # A server connection of a transaction pool does not know the statements that another one has prepared.
        "prepare_threshold": None if settings.database_transaction_pooling else _PREPARE_THRESHOLD,
        **_TCP,
        **_given(settings),
    }


def limits(
    settings: DatabaseSettings, statement_seconds: float, **session: str
) -> tuple[LiteralString, tuple[list[str], list[str]]] | None:
    """A statement, with its values, that sets the server's limits for a new connection, and further settings of the
    session by name. The `options` of the URL take precedence. None in a transaction pool, where a setting would pass to
    other clients: there the role has the limits (docs/how-to/operating.md).
    """
    if settings.database_transaction_pooling:
        return None
    milliseconds = str(int(statement_seconds * 1000))
    values = _SESSION | {
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        **session,
    }
    options = _OPTION.findall(str(_given(settings).get("options", "")))
    by_url = {(short or long).replace("-", "_") for short, long in options}
    names = [name for name in values if name not in by_url]
    return _SET, (names, [values[name] for name in names])


def unavailable(error: Exception) -> TransientError:
    """The stages' error where a connection cannot be made or has ended. It names the cause where the server itself
    refuses the connection."""
    causes = (cause for pattern, cause in _REFUSALS.items() if re.search(pattern, str(error)))
    return TransientError(f"the database is not available: {next(causes, type(error).__name__)}")


def _given(settings: DatabaseSettings) -> dict[str, Any]:
    return conninfo_to_dict(settings.database_url.get_secret_value())


@contextmanager
def bounded(
    connection: psycopg.AsyncConnection[Any],
    seconds: float,
    end: Callable[[psycopg.AsyncConnection[Any]], None] | None = None,
) -> Iterator[None]:
    """Calls end, or else abort(), where the block takes longer than so many seconds."""
    timer = asyncio.get_running_loop().call_later(seconds, end or abort, connection)
    try:
        yield
    finally:
        timer.cancel()


def abort(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """Ends a connection whose server does not answer. The statement that waits fails with an OperationalError.

    Cancelling the task would not do: psycopg then asks the server to cancel the statement, and waits for that answer.
    """
    if connection.closed:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
