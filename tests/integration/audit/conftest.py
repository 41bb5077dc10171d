"""The stages in the test's own process. Each module has a broker of its own, because the audit reads whole topics."""

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
def pipeline(kafka: str, fresh_database: str) -> Iterator[Pipeline]:
    migrate(fresh_database)
    pipeline = Pipeline(kafka, fresh_database)
    yield pipeline
    pipeline.publisher.close()
