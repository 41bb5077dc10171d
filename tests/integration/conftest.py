"""The real servers that KAFKA_BOOTSTRAP and DATABASE_URL name; embedded servers where they name none."""

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
    """host:port of a broker that the whole session shares. Each test gives its topics and groups names of its own."""
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP")
    if bootstrap:
        yield bootstrap
        return
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka.bootstrap


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """URL of a database that the whole session shares."""
    url = os.environ.get("DATABASE_URL")
    if url:
        yield url
        return
    # Where root runs the tests, the server runs as another user, who cannot enter pytest's own temporary folder.
    with (
        tempfile.TemporaryDirectory(prefix="orderflow-") as folder,
        EmbeddedPostgres(Path(folder)) as postgres,
    ):
        yield postgres.url


@pytest.fixture
def fresh_database(database_url: str) -> Iterator[str]:
    """URL of an empty database that no other test uses."""
    name = f"test_{uuid.uuid4().hex}"
    yield create_database(database_url, name)
    drop_database(database_url, name)
