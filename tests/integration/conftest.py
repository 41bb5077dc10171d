"""The real servers: those that KAFKA_BOOTSTRAP and DATABASE_URL name, or embedded ones."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.postgres import EmbeddedPostgres, create_database, drop_database


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker that the whole session shares: give topics and groups own names."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka.bootstrap


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """URL of a database that the whole session shares."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    # Run by root, the server is another user's, and every pytest that starts closes pytest's own folder to others.
    with (
        tempfile.TemporaryDirectory(prefix="orderflow-") as folder,
        EmbeddedPostgres(Path(folder)) as postgres,
    ):
        yield postgres.url


@pytest.fixture
def fresh_database(database_url: str) -> Iterator[str]:
    """URL of an empty database that this test has for itself."""
    name = f"test_{uuid.uuid4().hex}"
    yield create_database(database_url, name)
    drop_database(database_url, name)
