"""The sizes that docs/reference/scaling.md calculates with, compared with a real Kafka and a real PostgreSQL."""

from collections.abc import Iterator

import psycopg
import pytest
from support.pipeline import Pipeline

from bench import sizing, workload
from orderflow.adapters.kafka.log import Log
from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.rules import Rules
from orderflow.messaging import topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka

ORDERS = 100


@pytest.fixture
def line(tmp_path_factory: pytest.TempPathFactory, fresh_database: str) -> Iterator[Pipeline]:
    migrate(fresh_database)
    with EmbeddedKafka(tmp_path_factory.mktemp("sized")) as kafka:
        line = Pipeline(kafka.bootstrap, fresh_database)
        yield line
        line.publisher.close()


def average_record_bytes(line: Pipeline, topic: str) -> float:
    """With key and headers."""
    log = Log({"bootstrap.servers": line.bootstrap})
    sizes = []
    for batch in log.read(topic, {p: (each.start, each.end) for p, each in log.offset_ranges(topic).items()}):
        for message in batch:
            headers = sum(len(name) + len(value or b"") for name, value in message.headers() or [])
            sizes.append(len(message.value() or b"") + len(message.key() or b"") + headers)
    return sum(sizes) / len(sizes)


def database_bytes(line: Pipeline) -> int:
    with psycopg.connect(line.url) as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public' AND relkind = 'r'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_records_and_rows_are_as_large_as_the_sizing_says(line: Pipeline) -> None:
    empty = database_bytes(line)
    line.put(topics.INBOX, *workload.make(ORDERS, Rules()).inbox)
    line.all_stages()
    events = ORDERS * sizing.EVENTS
    records = sum(average_record_bytes(line, topic) for topic in (topics.INBOX, topics.EVENTS, topics.STATUS))
    rows = (database_bytes(line) - empty) / events
    measured = f"{records:.0f} bytes in three topics and {rows:.0f} in the database, an event"
    assert records == pytest.approx(sizing.RECORD_BYTES * sizing.TOPICS, rel=0.25), measured
    assert rows == pytest.approx(sizing.ROW_BYTES, rel=0.25), measured
