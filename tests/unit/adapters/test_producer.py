"""The publisher's dealings with librdkafka: what it answers, and when."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from support.events import paid

from orderflow.adapters.kafka.producer import KafkaPublisher, producer_config
from orderflow.errors import BadSettingsError, PoisonError, UnavailableError
from orderflow.settings import KafkaSettings

SETTINGS = KafkaSettings(kafka_bootstrap="127.0.0.1:1")

Answer = Callable[[KafkaError | None, Any], None]


class Librdkafka:
    """A producer whose answers the test gives; they come from another thread, as librdkafka's do."""

    def __init__(
        self,
        refuses: Exception | None = None,
        answers: tuple[KafkaError | None, ...] = (),
        raises: list[Exception] | None = None,
    ) -> None:
        """raises are what polling raises, one after the other."""
        self.refuses = refuses
        self.raises = raises or []
        self.answers = list(answers)
        self.waiting: list[Answer] = []
        self.ready = threading.Event()
        self.answered = threading.Event()

    def produce(self, *_: Any, on_delivery: Answer, **__: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.waiting.append(on_delivery)
        self.ready.set()

    def poll(self, seconds: float) -> int:
        self.ready.wait(seconds)
        if self.waiting and self.raises:
            raise self.raises.pop()
        while self.waiting and self.answers:
            self.waiting.pop(0)(self.answers.pop(0), None)
            self.answered.set()
        self.ready.clear()
        return 0

    def __bool__(self) -> bool:
        return True  # as confluent-kafka's, whatever its length

    def __len__(self) -> int:
        return len(self.waiting)


def publisher_of(*producers: Librdkafka) -> KafkaPublisher:
    made = iter(producers)
    return KafkaPublisher(SETTINGS, lambda _: next(made))  # type: ignore[arg-type,return-value]


async def test_no_answer_means_not_published() -> None:
    silent = Librdkafka(answers=(None,))
    publisher = publisher_of(silent)
    task = asyncio.create_task(publisher.publish("t", [paid("o-1"), paid("o-1")]))
    assert await asyncio.to_thread(silent.answered.wait, 10)
    assert not task.done()
    silent.answers.append(None)
    silent.ready.set()
    await task
    publisher.close()


def test_an_answer_after_the_loop_was_closed_leaves_the_next_loop_its_own() -> None:
    slow = Librdkafka()
    publisher = publisher_of(slow)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(publisher.publish("t", [paid("o-1")]), 0.05)

    asyncio.run(give_up())
    slow.answers.append(None)
    slow.ready.set()
    assert slow.answered.wait(10)
    slow.answers.append(None)
    asyncio.run(asyncio.wait_for(publisher.publish("t", [paid("o-2")]), 10))
    publisher.close()


async def test_one_event_that_failed_fails_the_call() -> None:
    publisher = publisher_of(Librdkafka(answers=(None, KafkaError(KafkaError._MSG_TIMED_OUT), None)))
    with pytest.raises(UnavailableError, match="_MSG_TIMED_OUT"):
        await publisher.publish("t", [paid("o-1")] * 3)
    publisher.close()


async def test_an_event_larger_than_its_topic_takes_is_poison_wherever_that_is_noticed() -> None:
    too_large = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    for producer in (Librdkafka(refuses=KafkaException(too_large)), Librdkafka(answers=(too_large,))):
        publisher = publisher_of(producer)
        with pytest.raises(PoisonError) as caught:
            await publisher.publish("t", [paid("o-1")])
        assert caught.value.reasons[0].code == "too_large"
        publisher.close()


async def test_a_full_queue_is_trouble_that_time_cures() -> None:
    publisher = publisher_of(Librdkafka(refuses=BufferError()))
    with pytest.raises(UnavailableError):
        await publisher.publish("t", [paid("o-1")])
    publisher.close()


async def test_after_a_fatal_error_the_next_call_has_a_new_producer() -> None:
    fatal = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, fatal=True)
    dead = KafkaError(KafkaError._FATAL)
    for first in (Librdkafka(answers=(fatal,)), Librdkafka(refuses=KafkaException(dead))):
        publisher = publisher_of(first, Librdkafka(answers=(None,)))
        with pytest.raises(UnavailableError):
            await publisher.publish("t", [paid("o-1")])
        await publisher.publish("t", [paid("o-1")])
        publisher.close()


async def test_an_error_that_polling_raises_leaves_no_call_without_an_answer() -> None:
    fatal = KafkaException(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, fatal=True))
    refused = KafkaError(KafkaError._FATAL)
    publisher = publisher_of(Librdkafka(raises=[fatal], answers=(refused,)), Librdkafka(answers=(None,)))
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(publisher.publish("t", [paid("o-1")]), 10)
    await publisher.publish("t", [paid("o-1")])
    publisher.close()


async def test_nothing_to_publish_makes_no_producer() -> None:
    await publisher_of().publish("t", [])


def test_durability_is_not_for_the_file_of_properties_to_change(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("# TLS\nacks=1\nenable.idempotence=false\nsecurity.protocol = SSL\nsasl.password=a=b\n")
    config = producer_config(KafkaSettings(kafka_bootstrap="h:1", kafka_config_file=file))
    assert (config["acks"], config["enable.idempotence"]) == ("all", True)
    assert (config["security.protocol"], config["sasl.password"]) == ("SSL", "a=b")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"no value\n", b"no.such.property=1\n"])
def test_a_file_of_properties_that_cannot_be_right_keeps_the_stage_from_starting(
    content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "kafka.properties"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSettingsError, match="KAFKA_CONFIG_FILE"):
        KafkaPublisher(KafkaSettings(kafka_bootstrap="h:1", kafka_config_file=file))
