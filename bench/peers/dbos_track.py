"""Track with DBOS: a workflow for each record, in order per partition, of a datasource transaction and a step."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer
from dbos import DBOS, KafkaMessage, SQLAlchemyDatasource

from orderflow import settings
from orderflow.adapters.kafka.producer import producer_config
from orderflow.adapters.postgres import pool
from orderflow.domain.rules import Waiting
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

REVISION: Final = "dbos"
POOL: Final = 16
POLL_SECONDS: Final = 0.02
"""Of the queue that the workflows wait in; 1 s as shipped, which gives 7 events a second."""
ACK_SECONDS: Final = 10.0


class TrackSettings(settings.DatabaseSettings, settings.KafkaSettings):
    pass


config = settings.load(TrackSettings)
url = config.database_url.get_secret_value()
system_url = url.replace("/orderflow?", "/bench_dbos?")
DBOS(
    config={
        "name": "bench",
        "system_database_url": system_url,
        "sys_db_pool_size": POOL,
        "kafka_queue_polling_interval_sec": POLL_SECONDS,
        "log_level": "WARNING",
    }
)
datasource = SQLAlchemyDatasource.create(
    url.replace("postgresql://", "postgresql+psycopg://"),
    engine_kwargs={"pool_size": POOL, "connect_args": {"options": "-c enable_seqscan=off"}},
)
producer = Producer(producer_config(config))


@datasource.transaction(isolation_level="READ COMMITTED")
def apply(attributes: dict[str, str], data: str) -> list[dict[str, Any]]:
    """Rows and announcements; what it returns is kept with the rows, for a workflow that is taken up again."""
    now = decision.read(_envelope(dict(attributes), data.encode()))
    connection = datasource.sql_session().connection()
    rows = connection.exec_driver_sql(pool.READ, pool.read_values([now])).mappings().all()
    (known,) = pool.snapshots([now], [dict(row) for row in rows])
    plan = decision.plan(now, known, REVISION)
    if plan.writes:
        connection.exec_driver_sql(
            pool.WRITE, pool.write_values([plan], REVISION, Waiting(), datetime.now(UTC))
        )
    return [{"attributes": event.attributes(), "data": event.data.decode()} for event in plan.announced]


@DBOS.step()
def announce(events: list[dict[str, Any]]) -> None:
    for each in events:
        event = _envelope(dict(each["attributes"]), each["data"].encode())
        done = threading.Event()
        failed: list[str] = []

        def answered(
            error: KafkaError | None,
            _message: Message,
            done: threading.Event = done,
            failed: list[str] = failed,
        ) -> None:
            if error is not None:
                failed.append(error.name())
            done.set()

        producer.produce(
            topics.STATUS, event.data, event.key, headers=event.kafka_headers(), on_delivery=answered
        )
        if not done.wait(ACK_SECONDS) or failed:
            raise RuntimeError("Kafka did not confirm")


@DBOS.kafka_consumer(
    {"bootstrap.servers": config.kafka_bootstrap, "group.id": "bench-dbos", "auto.offset.reset": "earliest"},
    [topics.EVENTS],
    ordering="partition",
)
@DBOS.workflow()
def track(message: KafkaMessage) -> None:
    headers = {name: value.decode() for name, value in message.headers or [] if isinstance(value, bytes)}
    attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
    assert isinstance(message.value, bytes)  # noqa: S101 - what the consumer gives
    announce(apply(attributes, message.value.decode()))


def _envelope(attributes: dict[str, str], data: bytes) -> CloudEvent:
    attributes.pop("specversion")
    named = {name: attributes.pop(name, "") for name in ("type", "source", "id", "subject", "time")}
    return CloudEvent(**named, data=data, extensions=attributes)


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def collect() -> None:
        while not stop.is_set():
            producer.poll(0.2)

    threading.Thread(target=collect, daemon=True).start()
    DBOS.launch()
    stop.wait()
    DBOS.destroy()
    producer.flush(ACK_SECONDS)


if __name__ == "__main__":
    main()
