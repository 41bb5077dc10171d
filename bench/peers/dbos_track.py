"""Track with DBOS: one workflow per record, in sequence per partition. It has a datasource transaction and a step."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer
from dbos import DBOS, KafkaMessage, SQLAlchemyDatasource

from orderflow import settings
from orderflow.adapters.kafka.producer import producer_config
from orderflow.domain.rules import Waiting
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision, store

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

REVISION: Final = "dbos"
POOL: Final = 16
POLL_SECONDS: Final = 0.02
"""Polling interval of the queue in which the workflows wait. DBOS' default of 1 s gives 7 events per second."""
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
PER_ORDER = Waiting().per_order


@datasource.transaction(isolation_level="READ COMMITTED")
def apply(attributes: dict[str, str], data: str) -> list[dict[str, Any]]:
    """Writes the rows and returns the announcements. DBOS stores the result in the same transaction, for a workflow
    that is resumed."""
    arrival = decision.read(_cloudevent(dict(attributes), data.encode()))
    connection = datasource.sql_session().connection()
    rows = connection.exec_driver_sql(store.READ, store.read_values([arrival], PER_ORDER)).mappings().all()
    (snapshot,) = store.snapshots([arrival], [dict(row) for row in rows], PER_ORDER)
    plan = decision.plan(arrival, snapshot, REVISION)
    if plan.changes and snapshot.waits:
        values = {"order_id": [arrival.order_id]}
        rows = connection.exec_driver_sql(store.READ_WAITING, values).mappings().all()
        waiting = store.arrivals_by_order([dict(row) for row in rows])
        plan = decision.plan(arrival, replace(snapshot, waiting=waiting[arrival.order_id]), REVISION)
    if plan.writes:
        connection.exec_driver_sql(
            store.WRITE, store.write_values([plan], REVISION, Waiting(), datetime.now(UTC))
        )
    return [{"attributes": event.attributes(), "data": event.data.decode()} for event in plan.announced]


@DBOS.step()
def announce(events: list[dict[str, Any]]) -> None:
    for each in events:
        event = _cloudevent(dict(each["attributes"]), each["data"].encode())
        reported = threading.Event()
        errors: list[str] = []

        def on_delivery(
            error: KafkaError | None,
            _message: Message,
            reported: threading.Event = reported,
            errors: list[str] = errors,
        ) -> None:
            if error is not None:
                errors.append(error.name())
            reported.set()

        producer.produce(
            topics.STATUS, event.data, event.key, headers=event.kafka_headers(), on_delivery=on_delivery
        )
        if not reported.wait(ACK_SECONDS) or errors:
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
    assert isinstance(message.value, bytes)  # noqa: S101 - the consumer returns bytes
    announce(apply(attributes, message.value.decode()))


def _cloudevent(attributes: dict[str, str], data: bytes) -> CloudEvent:
    attributes.pop("specversion")
    context = {name: attributes.pop(name, "") for name in ("type", "source", "id", "subject", "time")}
    return CloudEvent(**context, data=data, extensions=attributes)


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
