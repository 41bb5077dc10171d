"""Kafka's logs are other than they were: transactions that abort, topics made anew, a log cut."""

import asyncio
import itertools
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
from confluent_kafka import Producer

from orderflow.adapters.kafka.producer import producer_config
from orderflow.messaging import topics
from orderflow.settings import KafkaSettings
from orderflow_sandbox.messages import OrderScenario
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.topics import admin_client
from tests.chaos.endless_scenarios import endless_scenarios
from tests.chaos.errors import FaultError
from tests.chaos.journal import now
from tests.chaos.scenario import MENDABLE, Run, Scenario, pause
from tests.chaos.shop import kill

_TRANSACTIONS = 24
_ORDERS_OF_A_TRANSACTION = 3
_TRANSACTION_SECONDS = 5
"""How long Kafka lets a transaction be open. It looks every 10 s."""
_BACKLOG = 15
"""Orders that are confirmed by the topic's old log and not delivered."""
_CUT_BELOW = 4
"""Records that an earlier audit knew and that are cut away, besides all later ones."""
_BATCH_HEAD = struct.Struct(">qi")
"""A record batch begins with its first offset and the length of what follows."""
_LAST_OFFSET_DELTA = struct.Struct(">i")
_LAST_OFFSET_DELTA_AT = 23
_SECONDS = 30


async def transactions_abort(run: Run) -> None:
    """Every second transaction aborts, and the last one stays open until Kafka aborts it."""
    drawn = endless_scenarios(run.rolls.randrange(2**32), f"{run.prefix}t", frozenset({"not paid yet"}))
    for _ in range(run.scenario.runs):
        await run.mid_load()
        transactions = [list(itertools.islice(drawn, _ORDERS_OF_A_TRANSACTION)) for _ in range(_TRANSACTIONS)]
        with run.fault():
            began = now()
            await asyncio.to_thread(_produce_in_transactions, run.shop.bootstrap, run.prefix, transactions)
            for number, scenarios in enumerate(transactions):
                for scenario in scenarios:
                    _record(run, scenario, began, committed=_commits(number, transactions))
            await pause(1.0)


def _record(run: Run, scenario: OrderScenario, began: float, *, committed: bool) -> None:
    """No order may come of what was not committed."""
    run.load.expect(scenario if committed else replace(scenario, end=None, parked=0))
    if committed:
        for message in scenario.messages:
            run.journal.confirm((message.event.source, message.event.id), scenario.order_id, began)


def _commits(number: int, transactions: list[list[OrderScenario]]) -> bool:
    return number % 2 == 0 and number < len(transactions) - 1


def _produce_in_transactions(bootstrap: str, prefix: str, transactions: list[list[OrderScenario]]) -> None:
    settings = KafkaSettings(kafka_bootstrap=bootstrap, k_revision="transactions")
    producer = Producer(
        producer_config(settings)
        | {
            "transactional.id": f"{prefix}-transactions",
            "transaction.timeout.ms": _TRANSACTION_SECONDS * 1000,
        }
        | {"delivery.timeout.ms": _TRANSACTION_SECONDS * 1000}
        | {"request.timeout.ms": _TRANSACTION_SECONDS * 1000}
    )
    producer.init_transactions(_SECONDS)
    for number, scenarios in enumerate(transactions):
        producer.begin_transaction()
        for scenario in scenarios:
            for message in scenario.messages:
                event = message.event
                producer.produce(
                    topics.INBOX, event.data, event.subject.encode(), headers=event.kafka_headers()
                )
        if producer.flush(_SECONDS):
            raise FaultError("Kafka did not take a transaction")
        if number == len(transactions) - 1:
            return
        commits = _commits(number, transactions)
        (producer.commit_transaction if commits else producer.abort_transaction)(_SECONDS)


def made_anew(topic: str, away: tuple[str, ...]) -> Callable[[Run], Awaitable[None]]:
    """Deletes the topic while it has records that were confirmed and not delivered: the Services in away cannot be
    reached for a moment; without any, nothing is delivered."""

    async def strike(run: Run) -> None:
        delivery, load = run.shop.delivery, run.load
        await run.mid_load()
        await run.audit_until_complete()
        since = now()
        if away:
            await delivery.restart(away=away)
        else:
            await delivery.stop_all()
        await load.until_sent(_BACKLOG)
        with run.fault():
            await delivery.stop_all()
            await asyncio.to_thread(_delete, run.shop.bootstrap, topic)
            await pause(2.0)
            load.connected.clear()
            await asyncio.to_thread(create_order_topics, run.shop.bootstrap, run.shop.partitions)
            await delivery.start()
            await load.send_again(since)
            load.connected.set()

    return strike


def _delete(bootstrap: str, topic: str) -> None:
    admin = admin_client(bootstrap)
    for future in admin.delete_topics([topic], operation_timeout=_SECONDS).values():
        future.result(_SECONDS)


async def log_is_cut(run: Run) -> None:
    """A broker that was killed comes back without the end of one partition's log, and the log grows past the offset
    that validate's group had confirmed. So validate is never given the first records of the new end."""
    shop, load, groups = run.shop, run.load, run.groups
    await run.mid_load()
    await run.audit_until_complete()
    since = now()
    audited = await asyncio.to_thread(_seen_by_the_audit, shop.database, topics.INBOX)
    partition = max(audited, key=lambda each: audited[each])
    await load.until_sent(_BACKLOG)
    await shop.delivery.stop_all()
    await load.until_sent(_BACKLOG)
    confirmed = (await asyncio.to_thread(groups.committed_by, "validate"))[partition]
    with run.fault():
        load.connected.clear()
        await kill(shop.brokers[0])
        log = shop.brokers[0].state / "data" / f"{topics.INBOX}-{partition}"
        await asyncio.to_thread(cut, log, audited[partition] - _CUT_BELOW)
        await asyncio.to_thread(shop.brokers[0].start)
        end = await asyncio.to_thread(groups.end_of, "validate", partition)
        if end >= audited[partition]:
            raise FaultError(
                f"the log was not cut: it ends at {end}, and was audited up to {audited[partition]}"
            )
        await load.send_again(since)
        load.connected.set()
        while await asyncio.to_thread(groups.end_of, "validate", partition) <= confirmed:
            await load.until_sent(5)
        await shop.delivery.start()


def _seen_by_the_audit(database: str, topic: str) -> dict[int, int]:
    """The end of each partition's log when the audit last ran."""
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT partition, log_end FROM audit_logs WHERE topic = %s", [topic])
        return dict(rows.fetchall())


def cut(log: Path, first: int) -> None:
    """Cuts a partition's log at the batch with this offset, while no broker runs on it. What Kafka derives from the log
    is removed; Kafka makes it again."""
    segments = sorted(log.glob("*.log"))
    for segment in segments:
        content = segment.read_bytes()
        ends = [end for offset, end in batches(content) if offset < first]
        if int(segment.stem) >= first and segment != segments[0]:
            segment.unlink()
        else:
            with segment.open("r+b") as file:
                file.truncate(ends[-1] if ends else 0)
    for pattern in ("*.index", "*.timeindex", "*.txnindex", "*.snapshot"):
        for derived in log.glob(pattern):
            derived.unlink()


def batches(content: bytes) -> Iterator[tuple[int, int]]:
    """The last offset of each batch of a segment, and the position of the batch's end."""
    position = 0
    while position + _LAST_OFFSET_DELTA.size + _LAST_OFFSET_DELTA_AT <= len(content):
        first, length = _BATCH_HEAD.unpack_from(content, position)
        (delta,) = _LAST_OFFSET_DELTA.unpack_from(content, position + _LAST_OFFSET_DELTA_AT)
        position += _BATCH_HEAD.size + length
        if length <= 0 or position > len(content):
            return
        yield first + delta, position


SCENARIOS = [
    Scenario("transactions-abort", "transactions that abort, or stay open", transactions_abort, 2),
    Scenario(
        "inbox-made-anew",
        "inbox topic deleted and made anew",
        made_anew(topics.INBOX, ()),
        kinds=MENDABLE,
        names="the topic was made anew",
    ),
    Scenario(
        "events-made-anew",
        "events topic deleted and made anew",
        made_anew(topics.EVENTS, ("track",)),
        kinds=MENDABLE,
        names="the topic was made anew",
    ),
    Scenario(
        "log-cut",
        "inbox's log cut and grown again",
        log_is_cut,
        kinds=MENDABLE,
        mends=True,
        names="the log was cut",
    ),
]
