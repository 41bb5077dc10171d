"""KafkaPublisher against a fake librdkafka: how each delivery report ends the call."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from support.events import paid

from orderflow.adapters.kafka.producer import KafkaPublisher, producer_config
from orderflow.errors import BadSettingsError, PoisonError, TransientError
from orderflow.settings import KafkaSettings

SETTINGS = KafkaSettings(kafka_bootstrap="127.0.0.1:1")

DeliveryCallback = Callable[[KafkaError | None, Any], None]


class Librdkafka:
    """A producer whose delivery reports the test chooses. They come from another thread, as librdkafka's do."""

    def __init__(
        self,
        produce_error: Exception | None = None,
        reports: tuple[KafkaError | None, ...] = (),
        poll_errors: list[Exception] | None = None,
    ) -> None:
        """produce() raises produce_error; each call of poll() raises the last of poll_errors, until none is left."""
        self.produce_error = produce_error
        self.poll_errors = poll_errors or []
        self.reports = list(reports)
        self.callbacks: list[DeliveryCallback] = []
        self.ready = threading.Event()
        self.reported = threading.Event()

    def produce(self, *_: Any, on_delivery: DeliveryCallback, **__: Any) -> None:
        if self.produce_error is not None:
            raise self.produce_error
        self.callbacks.append(on_delivery)
        self.ready.set()

    def poll(self, seconds: float) -> int:
        self.ready.wait(seconds)
        if self.callbacks and self.poll_errors:
            raise self.poll_errors.pop()
        while self.callbacks and self.reports:
            self.callbacks.pop(0)(self.reports.pop(0), None)
            self.reported.set()
        self.ready.clear()
        return 0

    def __bool__(self) -> bool:
        return True  # as confluent-kafka's producer, whatever its length

    def __len__(self) -> int:
        return len(self.callbacks)


def publisher_of(*producers: Librdkafka) -> KafkaPublisher:
    remaining = iter(producers)
    return KafkaPublisher(SETTINGS, lambda _: next(remaining))  # type: ignore[arg-type,return-value]


async def test_no_answer_means_not_published() -> None:
    librdkafka = Librdkafka(reports=(None,))
    publisher = publisher_of(librdkafka)
    task = asyncio.create_task(publisher.publish("t", [paid("o-1"), paid("o-1")]))
    assert await asyncio.to_thread(librdkafka.reported.wait, 10)
    assert not task.done()
    librdkafka.reports.append(None)
    librdkafka.ready.set()
    await task
    publisher.close()


def test_an_answer_after_the_loop_was_closed_leaves_the_next_loop_its_own() -> None:
    librdkafka = Librdkafka()
    publisher = publisher_of(librdkafka)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(publisher.publish("t", [paid("o-1")]), 0.05)

    asyncio.run(give_up())
    librdkafka.reports.append(None)
    librdkafka.ready.set()
    assert librdkafka.reported.wait(10)
    librdkafka.reports.append(None)
    asyncio.run(asyncio.wait_for(publisher.publish("t", [paid("o-2")]), 10))
    publisher.close()


async def test_one_event_that_failed_fails_the_call() -> None:
    publisher = publisher_of(Librdkafka(reports=(None, KafkaError(KafkaError._MSG_TIMED_OUT), None)))
    with pytest.raises(TransientError, match="_MSG_TIMED_OUT"):
        await publisher.publish("t", [paid("o-1")] * 3)
    publisher.close()


async def test_an_event_larger_than_its_topic_takes_is_poison_wherever_that_is_noticed() -> None:
    too_large = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    for producer in (Librdkafka(produce_error=KafkaException(too_large)), Librdkafka(reports=(too_large,))):
        publisher = publisher_of(producer)
        with pytest.raises(PoisonError) as caught:
            await publisher.publish("t", [paid("o-1")])
        assert caught.value.reasons[0].code == "too_large"
        publisher.close()


async def test_a_full_queue_is_trouble_that_time_cures() -> None:
    publisher = publisher_of(Librdkafka(produce_error=BufferError()))
    with pytest.raises(TransientError):
        await publisher.publish("t", [paid("o-1")])
    publisher.close()


async def test_after_a_fatal_error_the_next_call_has_a_new_producer() -> None:
    fatal = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, fatal=True)
    after_fatal = KafkaException(KafkaError(KafkaError._FATAL))
    for first in (Librdkafka(reports=(fatal,)), Librdkafka(produce_error=after_fatal)):
        publisher = publisher_of(first, Librdkafka(reports=(None,)))
        with pytest.raises(TransientError):
            await publisher.publish("t", [paid("o-1")])
        await publisher.publish("t", [paid("o-1")])
        publisher.close()


async def test_an_error_that_polling_raises_leaves_no_call_without_an_answer() -> None:
    fatal = KafkaException(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, fatal=True))
    after_fatal = KafkaError(KafkaError._FATAL)
    publisher = publisher_of(
        Librdkafka(poll_errors=[fatal], reports=(after_fatal,)), Librdkafka(reports=(None,))
    )
    with pytest.raises(TransientError):
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
