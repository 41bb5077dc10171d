"""Track with FastStream on confluent-kafka: batches of up to 500 records, one offset commit per batch.

Orders run in parallel, the events of one order in sequence. Variant `statement`: each event has its own READ and WRITE,
on a pool of connections. Variant `rows`: the next event of every order of the batch goes into one READ and one WRITE,
round by round.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Final, cast

import uvloop
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage

from orderflow import settings
from orderflow.adapters.postgres.pool import Database
from orderflow.domain.rules import Waiting
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision
from orderflow.track.handler import plan_all
from orderflow.track.store import OrderStore

if TYPE_CHECKING:
    from confluent_kafka import Message

    from orderflow.track.decision import Arrival, Plan

MAX_RECORDS: Final = 500
POOL: Final = 8
REVISION: Final = "faststream"


class TrackSettings(settings.DatabaseSettings, settings.KafkaSettings):
    database_pool_size: int = POOL


config = settings.load(TrackSettings)
store = OrderStore(Database(config), revision=REVISION, waiting=Waiting())
broker = KafkaBroker(
    config.kafka_bootstrap,
    acks="all",
    enable_idempotence=True,
    linger_ms=1,
    partitioner="murmur2_random",
    logger=None,
)
app = FastStream(broker, logger=None)
variant = sys.argv[1] if len(sys.argv) > 1 else "rows"


@broker.subscriber(
    topics.EVENTS,
    group_id=f"bench-faststream-{variant}",
    batch=True,
    max_records=MAX_RECORDS,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.MANUAL,
    polling_interval=0.05,
    # Without it, the library would decode every body as JSON, and the model would decode it again.
    decoder=lambda message: message.body,
)
async def track(message: KafkaMessage) -> None:
    raw = message.raw_message
    records = raw if isinstance(raw, tuple) else (raw,)
    arrivals = [decision.read(_cloudevent(record)) for record in records]
    await (_by_statement(arrivals) if variant == "statement" else _by_rows(arrivals))
    await message.ack()


async def _by_statement(arrivals: list[Arrival]) -> None:
    orders: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        orders.setdefault(arrival.order_id, []).append(arrival)
    # No more orders at the same time than the pool has connections: others would only wait for one.
    slots = asyncio.Semaphore(POOL)

    async def handle_order(order: list[Arrival]) -> None:
        for arrival in order:
            async with slots:
                _, (plan,) = await plan_all(store, [arrival], REVISION)
                if plan.writes:
                    await store.write([plan])
            await _publish([plan])

    await asyncio.gather(*map(handle_order, orders.values()))


async def _by_rows(arrivals: list[Arrival]) -> None:
    pending = arrivals
    while pending:
        first_of: dict[str, Arrival] = {}
        later = [each for each in pending if first_of.setdefault(each.order_id, each) is not each]
        batch = list(first_of.values())
        _, plans = await plan_all(store, batch, REVISION)
        if writing := [plan for plan in plans if plan.writes]:
            await store.write(writing)
        await _publish(plans)
        pending = later


async def _publish(plans: list[Plan]) -> None:
    """Returns when all in-sync replicas have every announcement."""
    confirmations = [
        await broker.publish(
            event.data,
            topics.STATUS,
            key=event.key,
            headers={name: str(value) for name, value in event.kafka_headers()},
            no_confirm=True,
        )
        for plan in plans
        for event in plan.announced
    ]
    await asyncio.gather(*confirmations)


def _cloudevent(record: Message) -> CloudEvent:
    headers = cast("list[tuple[str, bytes]]", record.headers() or [])
    attributes = {name[3:]: value.decode() for name, value in headers if name.startswith("ce_")}
    attributes.pop("specversion")
    context = {name: attributes.pop(name, "") for name in ("type", "source", "id", "subject", "time")}
    return CloudEvent(**context, data=record.value() or b"", extensions=attributes)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(app.run(log_level=logging.WARNING))
