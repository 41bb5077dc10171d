"""Publishing to a broker that the test can stop from answering; the module has its own broker."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import KafkaError, Producer
from support.events import event, order, paid, placed
from support.freezing import frozen
from support.stage import Stage
from support.topics import Tap

from orderflow.adapters.kafka.producer import KafkaPublisher
from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.rules import Rules
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.settings import KafkaSettings
from orderflow.validate.handler import validate
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.topics import create_topics

DEADLINE_SECONDS = 30


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("own-kafka")) as server:
        create_order_topics(server.bootstrap, 4)
        yield server


def server_pid(kafka: EmbeddedKafka) -> int:
    assert kafka.pid is not None
    return kafka.pid


def publisher_of(kafka: EmbeddedKafka, seconds: float) -> KafkaPublisher:
    return KafkaPublisher(KafkaSettings(kafka_bootstrap=kafka.bootstrap, kafka_ack_seconds=seconds))


def read_all(kafka: EmbeddedKafka, order_id: str, count: int) -> list[CloudEvent]:
    tap = Tap(kafka.bootstrap, *topics.ALL)
    try:
        return tap.until(lambda _, event: event.subject == order_id, count)
    finally:
        tap.close()


async def test_many_events_in_one_call_are_all_there_and_those_of_one_order_in_sequence(
    kafka: EmbeddedKafka,
) -> None:
    publisher = publisher_of(kafka, 30)
    events = [event("packed", f"many-{number % 7}") for number in range(700)]
    await publisher.publish(topics.INBOX, events)
    publisher.close()
    tap = Tap(kafka.bootstrap, topics.INBOX)
    records = tap.until(lambda _, event: event.subject.startswith("many-"), 700)
    tap.close()
    for number in range(7):
        sent_ids, recorded_ids = (
            [each.id for each in all_ if each.subject == f"many-{number}"] for all_ in (events, records)
        )
        assert recorded_ids == sent_ids


def outcome(kafka: EmbeddedKafka, topic: str, value: bytes, **settings: str | int) -> KafkaError | None:
    """What the broker says to one record in partition 0; None is its confirmation."""
    outcomes: list[KafkaError | None] = []
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True, "message.max.bytes": 10**9}
        | settings
    )
    producer.produce(topic, value, partition=0, on_delivery=lambda error, _: outcomes.append(error))
    assert producer.flush(DEADLINE_SECONDS) == 0
    return outcomes[0]


@pytest.mark.parametrize("compression", ["zstd", "gzip", "lz4", "snappy"])
def test_the_inbox_takes_or_refuses_a_compressed_record_by_its_unpacked_size(
    kafka: EmbeddedKafka, compression: str
) -> None:
    """The compressed size is that of a small order, which is all that a broker compares otherwise."""
    packed: dict[str, str | int] = {"compression.type": compression, "batch.size": 2**31 - 1}
    assert outcome(kafka, topics.INBOX, b" " * 1_000_000, **packed) is None
    for size in (2_000_000, 40_000_000):
        refusal = outcome(kafka, topics.INBOX, b" " * size, **packed)
        assert refusal is not None
        assert refusal.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert outcome(kafka, topics.INBOX, b"{}") is None


def test_what_compression_hides_is_taken_where_the_topic_does_not_forbid_it(kafka: EmbeddedKafka) -> None:
    create_topics(kafka.bootstrap, ["as-the-producer-packs"], partitions=1)
    assert outcome(kafka, "as-the-producer-packs", b" " * 40_000_000, **{"compression.type": "zstd"}) is None


async def test_as_long_as_the_broker_does_not_confirm_nothing_counts_as_published(
    kafka: EmbeddedKafka,
) -> None:
    publisher = publisher_of(kafka, 30)
    await publisher.publish(topics.INBOX, [paid("before")])
    with frozen(server_pid(kafka)):
        publishing = asyncio.create_task(publisher.publish(topics.INBOX, [paid("unconfirmed")]))
        done, _ = await asyncio.wait({publishing}, timeout=1)
        assert not done
    await publishing
    publisher.close()
    assert len(read_all(kafka, "unconfirmed", 1)) == 1


async def test_what_is_not_confirmed_in_time_is_told_and_the_next_event_is_published(
    kafka: EmbeddedKafka,
) -> None:
    publisher = publisher_of(kafka, 1)
    await publisher.publish(topics.INBOX, [paid("before")])
    with frozen(server_pid(kafka)), pytest.raises(TransientError):
        await publisher.publish(topics.INBOX, [paid("lost")])
    await publish_with_retries(publisher, paid("later"))
    publisher.close()


async def test_what_is_sent_twice_because_the_broker_was_slow_to_answer_is_in_its_log_once(
    kafka: EmbeddedKafka,
) -> None:
    """The woken broker gets the first request and its repetition, and appends the batch once, because the producer is
    idempotent."""
    timed_out = threading.Event()

    def on_statistics(statistics: str) -> None:
        brokers = json.loads(statistics)["brokers"].values()
        if any(broker["req_timeouts"] for broker in brokers):
            timed_out.set()

    short_timeout = {"socket.timeout.ms": 1000, "statistics.interval.ms": 100, "stats_cb": on_statistics}
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap, kafka_ack_seconds=60)
    publisher = KafkaPublisher(settings, lambda config: Producer(config | short_timeout))
    await publish_with_retries(publisher, paid("sent-twice", id="first"))
    with frozen(server_pid(kafka)):
        publishing = asyncio.create_task(publisher.publish(topics.INBOX, [paid("sent-twice", id="second")]))
        assert await asyncio.to_thread(timed_out.wait, DEADLINE_SECONDS)
    await publishing
    await publish_with_retries(publisher, paid("sent-twice", id="third"))
    publisher.close()
    tap = Tap(kafka.bootstrap, topics.INBOX)
    tap.until(lambda _, event: event.id == "third", 1)
    tap.close()
    assert [each.id for _, each in tap.seen if each.subject == "sent-twice"] == ["first", "second", "third"]


async def publish_with_retries(publisher: KafkaPublisher, event: CloudEvent) -> None:
    """Retries, because a broker that was frozen for longer than its session must register again."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return await publisher.publish(topics.INBOX, [event])
        except TransientError:
            assert time.monotonic() < deadline


def test_intake_answers_503_while_the_broker_sleeps_and_202_when_it_is_back(
    kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    environment = {"KAFKA_BOOTSTRAP": kafka.bootstrap, "KAFKA_ACK_SECONDS": "1"}
    with Stage("intake", tmp_path / "intake.log", **environment) as intake:

        def post() -> int:
            return intake.http.post(
                "/orders", json=order(), headers={"Idempotency-Key": "asleep"}
            ).status_code

        def post_until_accepted() -> None:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while (status := post()) != 202:
                assert status == 503
                assert time.monotonic() < deadline

        post_until_accepted()
        with frozen(server_pid(kafka)):
            assert post() == 503
        post_until_accepted()


def test_a_process_killed_between_commit_and_announcement_leaves_nothing_unannounced(
    kafka: EmbeddedKafka, fresh_database: str, tmp_path: Path
) -> None:
    migrate(fresh_database)
    sent = validate(placed("window"), Rules())
    environment = {"KAFKA_BOOTSTRAP": kafka.bootstrap, "DATABASE_URL": fresh_database}
    warm = validate(placed("warm"), Rules())
    with Stage("track", tmp_path / "first.log", **environment) as first:
        assert first.binary(warm).status_code == 204
        with frozen(server_pid(kafka)):
            unanswered = asyncio.run(kill_after_commit(first, sent, fresh_database))
        assert unanswered, "it was answered although nothing was announced"
    with Stage("track", tmp_path / "second.log", K_REVISION="track-00002", **environment) as second:
        again = replace(sent, extensions=sent.extensions | {"traceparent": "00-again"})
        assert second.binary(again).status_code == 204
    # The announcement that the first process sent to the frozen broker may be in the topic as well.
    tap = Tap(kafka.bootstrap, topics.STATUS)
    tap.until(lambda _, event: event.extensions.get("traceparent") == "00-again")
    tap.close()
    announcements = {(event.id, event.data) for _, event in tap.seen if event.subject == "window"}
    assert [json.loads(data)["status"] for _, data in announcements] == ["accepted"]
    with psycopg.connect(fresh_database) as connection:
        revisions = connection.execute("SELECT revision FROM ledger WHERE order_id = 'window'").fetchall()
    assert revisions == [("track-00001",)]


async def kill_after_commit(track: Stage, sent: CloudEvent, database: str) -> bool:
    """Kills the process as soon as its rows are committed; returns whether the request was unanswered by then."""
    response = asyncio.create_task(asyncio.to_thread(track.binary, sent))
    deadline = time.monotonic() + DEADLINE_SECONDS
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        while True:
            rows = await connection.execute("SELECT 1 FROM ledger WHERE order_id = %s", [sent.subject])
            if await rows.fetchone():
                break
            assert time.monotonic() < deadline
    unanswered = not response.done()
    track.stop(signal.SIGKILL)
    await asyncio.gather(response, return_exceptions=True)
    return unanswered
