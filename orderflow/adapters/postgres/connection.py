"""The parameters of every connection to PostgreSQL. They bound whatever may wait for the network or for the server."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    import psycopg

    from orderflow.settings import DatabaseSettings

_MIN_CONNECT_SECONDS: Final = 2
"""libpq's connect_timeout is in whole seconds: 0 means no limit, and libpq treats 1 as 2."""
ABORT_SECONDS: Final = 2.0
"""How much longer than the server's own limit a use of a connection may take."""
_TCP: Final = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
"""A connection that a firewall has forgotten is noticed after 20 seconds of silence. Linux alone would wait for two
hours."""
_USER_TIMEOUT_MS: Final = 10_000
"""How long sent data may stay without a TCP acknowledgement. Linux alone would repeat it for a quarter of an hour."""
_LOCK_MS: Final = 5_000
_SERVER: Final = {
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 2,
    "tcp_user_timeout": _USER_TIMEOUT_MS,
    "client_connection_check_interval": 5_000,
}
"""The server's side of the same: so that a client that vanished holds no lock for long."""


def parameters(
    settings: DatabaseSettings,
    *,
    statement_seconds: float | None = None,
    application_name: str = "orderflow",
    **session: object,
) -> dict[str, Any]:
    """The arguments of psycopg's connect(). Whatever the URL says takes precedence; its `options` replace all of ours.

    statement_seconds is the server's limit for one statement. session has further settings of the session, by name.
    """
    url = settings.database_url.get_secret_value()
    limits: dict[str, object] = {"lock_timeout": _LOCK_MS}
    if statement_seconds is not None:
        milliseconds = int(statement_seconds * 1000)
        limits |= {"statement_timeout": milliseconds, "idle_in_transaction_session_timeout": milliseconds}
    server = _SERVER | limits | session
    return {
        "connect_timeout": max(_MIN_CONNECT_SECONDS, round(settings.database_wait_seconds)),
        "tcp_user_timeout": _USER_TIMEOUT_MS,
        "application_name": application_name,
        "options": " ".join(f"-c {name}={value}" for name, value in server.items()),
        "prepare_threshold": 5 if settings.database_prepared_statements else None,
        **_TCP,
        **conninfo_to_dict(url),
    }


def abort(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """Ends a connection whose server does not answer. The statement that waits fails with an OperationalError.

    Cancelling the task would not do: psycopg then asks the server to cancel the statement, and waits for that answer.
    """
    if connection.closed:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
