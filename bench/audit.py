"""`python -m bench.audit [--records N ...] [--counted N]`: how long the audit takes over N records.

A third of the records each are placed orders, their verdicts and their status events, as the stages' own code makes
them; the database has a row for each, as the stages leave it. Each size is audited three times: without any recorded
place, so that every record is a gap and has to be read (`read`, what every record cost before places were recorded);
again with nothing new; and with all places recorded (`counted`). --counted adds records without rows up to that size,
which only the last kind of run judges. Kafka, PostgreSQL and the audit share all cores, as in the sandbox.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from psycopg.sql import SQL, Identifier

from bench.machine import ROOT, hardware
from bench.workload import SMALL_ORDER
from orderflow.adapters.kafka.log import Log
from orderflow.adapters.kafka.producer import producer_config
from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.events import type_of
from orderflow.domain.rules import Rules
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.handled_places import HISTORY
from orderflow.settings import KafkaSettings
from orderflow.track import decision
from orderflow.validate.handler import validate
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.postgres import EmbeddedPostgres
from orderflow_sandbox.servers.topics import admin_client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orderflow.track.decision import Plan

PARTITIONS: Final = 32
NOTIFICATIONS: Final = """\
[shop]
name = "Bench"
url = "https://shop.example"
[email]
from = "orders@shop.example"
smtp_url = "smtp://127.0.0.1:1"
"""
_STAGES: Final = {"validate": topics.INBOX, "track": topics.EVENTS, "notify": topics.STATUS}
_TABLES: Final = {
    "ledger": "source, id, order_id, kind, digest, outcome, revision, first_version, last_version, occurred_at",
    "history": (
        "order_id, version, source, id, kind, status, payment, captured, refunded, detail, revision, occurred_at"
    ),
    "notifications": "event_id, channel, recipient, order_id, kind, state, claim, claimed_until, revision",
    "orders": "order_id, lock, status, payment, currency, total, version, digest, document, placed_at",
}
_NIL: Final = "00000000-0000-0000-0000-000000000000"
_CHUNK: Final = 10_000


@dataclass(frozen=True, slots=True)
class Measurement:
    records: int
    name: str
    seconds: float
    peak_mb: float
    state: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--counted", type=int, default=10_000_000)
    options = parser.parse_args(arguments)
    sizes = sorted(options.records)
    print(hardware())
    print(f"{'records':>10} {'run':>8} {'seconds':>9} {'records/s':>10} {'peak MB':>9}  state")
    with tempfile.TemporaryDirectory(prefix="orderflow-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedKafka(folder / "kafka") as kafka, EmbeddedPostgres(folder / "postgres") as postgres:
            migrate(postgres.url)
            create_order_topics(kafka.bootstrap, PARTITIONS)
            servers = (kafka.bootstrap, postgres.url)
            made = 0
            for size in sizes:
                _make(*servers, range(made // 3, size // 3))
                made = size // 3 * 3
                _forget(postgres.url)
                _print(_measure(folder, *servers, made, "read"))
                _print(_measure(folder, *servers, 0, "again"))
                _forget(postgres.url)
                _record_places(*servers)
                _print(_measure(folder, *servers, made, "counted"))
            if options.counted > made:
                _fill(kafka.bootstrap, options.counted - made)
                _forget(postgres.url)
                _record_places(*servers)
                _print(_measure(folder, *servers, options.counted, "counted"))
    return 0


def _forget(database_url: str) -> None:
    """What the audit and the stages know of places."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table in ("handled", "audit_logs", "audit_runs"):
            connection.execute(SQL("DELETE FROM {}").format(Identifier(table)))


def _record_places(bootstrap: str, database_url: str) -> None:
    """All offsets of all topics, and all changes, as the stages record them."""
    log = Log({"bootstrap.servers": bootstrap})
    with psycopg.connect(database_url, autocommit=True) as connection:
        statement = "INSERT INTO handled VALUES (%s, %s, %s, %s, int8multirange(int8range(%s, %s)))"
        for stage, topic in _STAGES.items():
            topic_log = log.describe(topic)
            for partition, offsets in topic_log.partitions.items():
                row = (stage, topic, topic_log.topic_id, partition, offsets.start, offsets.end)
                connection.execute(statement, row)
        (last,) = connection.execute("SELECT last_value FROM history_serial").fetchone() or (0,)
        connection.execute(statement, ("track", HISTORY, HISTORY, 0, 1, last + 1))


def _fill(bootstrap: str, count: int) -> None:
    """Small records, a third in each topic."""
    producer = Producer(producer_config(KafkaSettings(kafka_bootstrap=bootstrap)))
    names = list(_STAGES.values())
    for number in range(count):
        while True:
            try:
                producer.produce(names[number % 3], b"x" * 100, partition=number // 3 % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(120)
    _commit(bootstrap)


def _make(bootstrap: str, database_url: str, numbers: range) -> None:
    """Writes the records and the rows of these orders, and the offsets of groups that consumed all records."""
    producer = Producer(producer_config(KafkaSettings(kafka_bootstrap=bootstrap)))
    with psycopg.connect(database_url, autocommit=True) as connection:
        for start in range(numbers.start, numbers.stop, _CHUNK):
            rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
            for number in range(start, min(start + _CHUNK, numbers.stop)):
                _add(producer, rows, number)
            producer.flush(60)
            for table, columns in _TABLES.items():
                with (
                    connection.cursor() as cursor,
                    cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy,
                ):
                    for row in rows[table]:
                        copy.write_row(row)
        connection.execute("ANALYZE")
    _commit(bootstrap)


def _add(producer: Producer, rows: dict[str, list[tuple[Any, ...]]], number: int) -> None:
    order_id = f"order-{number}"
    sent = CloudEvent(
        type=type_of("placed"),
        source="/shop/bench",
        id=f"placed-{number}",
        subject=order_id,
        time="2026-11-24T10:00:00Z",
        data=json.dumps(SMALL_ORDER).encode(),
        extensions={"partitionkey": order_id},
    )
    judged = validate(sent, Rules())
    plan = decision.plan(decision.read(judged), decision.Snapshot(), "bench")
    for topic, event in ((topics.INBOX, sent), (topics.EVENTS, judged), (topics.STATUS, plan.announced[0])):
        producer.produce(topic, event.data, event.key, headers=event.kafka_headers())
    producer.poll(0)
    for table, row in _rows(plan, order_id):
        rows[table].append(row)


def _rows(plan: Plan, order_id: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    (record,), (change,) = plan.entries, plan.changes
    state, when = change.state, record.occurred_at
    origin = (record.source, record.id)
    yield "ledger", (*origin, order_id, record.kind, record.digest, "applied", "bench", 1, 1, when)
    status = (state.status.value, state.payment.value)
    yield "history", (order_id, 1, *origin, change.kind, *status, 0, 0, "{}", "bench", when)
    yield (
        "notifications",
        (
            plan.announced[0].id,
            "email",
            "ada@example.org",
            order_id,
            change.kind,
            "sent",
            _NIL,
            when,
            "bench",
        ),
    )
    yield "orders", (order_id, 1, *status, "EUR", state.total, 1, state.digest, plan.document, when)


def _commit(bootstrap: str) -> None:
    for stage, topic in _STAGES.items():
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topics.consumer_group(stage)})
        ends = [
            TopicPartition(topic, p, consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1])
            for p in admin_client(bootstrap).list_topics(topic, timeout=30).topics[topic].partitions
        ]
        consumer.commit(offsets=ends, asynchronous=False)
        consumer.close()


def _measure(folder: Path, bootstrap: str, database_url: str, expected: int, name: str) -> Measurement:
    notifications = folder / "notifications.toml"
    notifications.write_text(NOTIFICATIONS)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "KAFKA_BOOTSTRAP": bootstrap,
        "DATABASE_URL": database_url,
        "NOTIFICATIONS_FILE": str(notifications),
        "AUDIT_GRACE_SECONDS": "0",
        "AUDIT_SECONDS": "3600",
    }
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "functions.audit", "--json"], env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - Popen has stdout=PIPE
    output = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    report = json.loads(output)
    assert report["records"] == expected, f"{report['records']} records were audited"  # noqa: S101 - of the bench itself
    return Measurement(expected, name, time.monotonic() - started, usage.ru_maxrss / 1024, report["state"])


def _print(run: Measurement) -> None:
    rate = f"{run.records / run.seconds:,.0f}" if run.records else "-"
    print(
        f"{run.records:>10,} {run.name:>8} {run.seconds:>9.1f} {rate:>10} {run.peak_mb:>9.0f}  {run.state}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
