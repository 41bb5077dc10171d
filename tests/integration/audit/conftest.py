"""A line of stages in the test's own process, on a broker of each module's own: the audit reads whole topics."""

from collections.abc import Iterator

import pytest
from support.pipeline import Pipeline

from orderflow.adapters.postgres.schema import migrate
from orderflow_sandbox.servers.kafka import EmbeddedKafka


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedKafka(tmp_path_factory.mktemp("audited")) as broker:
        yield broker.bootstrap


@pytest.fixture
def line(kafka: str, fresh_database: str) -> Iterator[Pipeline]:
    migrate(fresh_database)
    one = Pipeline(kafka, fresh_database)
    yield one
    one.publisher.close()
