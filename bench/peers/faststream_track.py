"""Track with FastStream on confluent-kafka: batches of up to 500, one commit a batch.

Orders go in parallel, the events of one order in sequence. `statement`: each event has its own READ and WRITE,
on as many connections as help. `rows`: the next event of every order of the batch goes into one READ and one
WRITE, round by round.
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
from orderflow.track.store import OrderStore

if TYPE_CHECKING:
    from confluent_kafka import Message

    from orderflow.track.decision import Arrival, Plan

MOST: Final = 500
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
way = sys.argv[1] if len(sys.argv) > 1 else "rows"


@broker.subscriber(
    topics.EVENTS,
    group_id=f"bench-faststream-{way}",
    batch=True,
    max_records=MOST,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.MANUAL,
    polling_interval=0.05,
    # Or the library would decode every body as JSON before the model does it again.
    decoder=lambda message: message.body,
)
async def track(message: KafkaMessage) -> None:
    raw = message.raw_message
    records = raw if isinstance(raw, tuple) else (raw,)
    arrivals = [decision.read(_envelope(record)) for record in records]
    await (_by_statement(arrivals) if way == "statement" else _by_rows(arrivals))
    await message.ack()


async def _by_statement(arrivals: list[Arrival]) -> None:
    orders: dict[str, list[Arrival]] = {}
    for now in arrivals:
        orders.setdefault(now.order_id, []).append(now)
    # More than there are connections would only wait for one.
    room = asyncio.Semaphore(POOL)

    async def one(order: list[Arrival]) -> None:
        for now in order:
            async with room:
                (known,) = await store.read([now])
                plan = decision.plan(now, known, REVISION)
                if plan.writes:
                    await store.write([plan])
            await _publish([plan])

    await asyncio.gather(*map(one, orders.values()))


async def _by_rows(arrivals: list[Arrival]) -> None:
    left = arrivals
    while left:
        now: dict[str, Arrival] = {}
        later = [event for event in left if now.setdefault(event.order_id, event) is not event]
        batch = list(now.values())
        snapshots = await store.read(batch)
        plans = [decision.plan(event, known, REVISION) for event, known in zip(batch, snapshots, strict=True)]
        if writing := [plan for plan in plans if plan.writes]:
            await store.write(writing)
        await _publish(plans)
        left = later


async def _publish(plans: list[Plan]) -> None:
    """Returns when all in-sync replicas have every one."""
    sent = [
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
    await asyncio.gather(*sent)


def _envelope(record: Message) -> CloudEvent:
    headers = cast("list[tuple[str, bytes]]", record.headers() or [])
    attributes = {name[3:]: value.decode() for name, value in headers if name.startswith("ce_")}
    attributes.pop("specversion")
    named = {name: attributes.pop(name, "") for name in ("type", "source", "id", "subject", "time")}
    return CloudEvent(**named, data=record.value() or b"", extensions=attributes)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(app.run(log_level=logging.WARNING))
