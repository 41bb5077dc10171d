"""Databases that tests of several modules need in the same state."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orderflow.adapters.postgres.schema import migrate
from orderflow_sandbox.address import free_port
from orderflow_sandbox.servers.postgres import EmbeddedPostgres, create_database, drop_database
from support.history import everything


@contextmanager
def postgres_over_tcp() -> Iterator[EmbeddedPostgres]:
    """A migrated server that also listens to TCP, on loopback."""
    settings = {"listen_addresses": "127.0.0.1", "port": str(free_port())}
    with (
        tempfile.TemporaryDirectory(prefix="orderflow-") as folder,
        EmbeddedPostgres(Path(folder), settings=settings) as server,
    ):
        migrate(server.url)
        yield server


@contextmanager
def database_with_everything(server_url: str) -> Iterator[str]:
    """The URL of a database with orders in every state."""
    name = f"test_{uuid.uuid4().hex}"
    url = create_database(server_url, name)
    everything(url)
    yield url
    drop_database(server_url, name)
