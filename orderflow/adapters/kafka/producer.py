"""Publishing to Kafka: an event counts as published when all in-sync replicas have it, and not before."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, Producer

from orderflow.errors import BadSettingsError, PoisonError, Reason, UnavailableError
from orderflow.messaging import topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError, Message

    from orderflow.messaging.cloudevent import Envelope
    from orderflow.settings import KafkaSettings

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
_QUEUE_MESSAGES: Final = 100_000


class _Delivery:
    """One publish call: counts the broker's answers."""

    __slots__ = ("failed", "future", "pending")

    def __init__(self, pending: int, future: asyncio.Future[None]) -> None:
        self.pending = pending
        self.future = future
        self.failed: str | None = None


class KafkaPublisher:
    """An idempotent producer with acks=all, made at first use or by connect().

    A producer made before a fork never delivers, and Functions Framework's gunicorn forks after it has
    imported the function. librdkafka's own thread sends; one more of ours collects the answers and wakes
    the event loop once for all that came together.
    """

    def __init__(
        self, settings: KafkaSettings, new: Callable[[dict[str, Any]], Producer] | None = None
    ) -> None:
        """Raises BadSettingsError where the file of properties cannot be read or has what librdkafka does not know."""
        self._config = producer_config(settings)
        # With a logger of ours librdkafka's lines are JSON like all others, and not printed past us.
        self._new = new or (lambda config: Producer(config, logger=log))
        if settings.kafka_config_file is not None:
            try:
                self._new(self._config)
            except KafkaException as error:
                raise BadSettingsError(f"KAFKA_CONFIG_FILE: {error.args[0].str()}") from None
        self._producer: Producer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: list[_Delivery] = []
        self._waking = False
        self._lock = threading.Lock()

    async def connect(self) -> None:
        """Makes the producer before it is needed. Raises nothing where Kafka is away."""
        if self._producer is None:
            self._start()

    async def publish(self, topic: str, events: Sequence[Envelope]) -> None:
        if not events:
            return
        producer = self._producer or self._start()
        self._loop = asyncio.get_running_loop()
        delivery = _Delivery(len(events), self._loop.create_future())

        def answered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                delivery.failed = error.name()
                self._drop_if_fatal(error)
            delivery.pending -= 1
            if delivery.pending == 0:
                self._wake(delivery)

        try:
            for event in events:
                producer.produce(
                    topic, event.data, event.key or None, headers=event.kafka_headers(), on_delivery=answered
                )
        except BufferError:
            raise UnavailableError("Kafka takes no more events: the queue is full") from None
        except KafkaException as error:
            fault: KafkaError = error.args[0]
            self._drop_if_fatal(fault)
            raise _refused(fault.name()) from None
        await delivery.future
        if delivery.failed is not None:
            log.warning("kafka did not confirm", extra={"topic": topic, "kafka_error": delivery.failed})
            raise _refused(delivery.failed)

    def _drop_if_fatal(self, error: KafkaError) -> None:
        """An idempotent producer that met a fatal error refuses everything from then on: the next call makes
        a new one."""
        if error.fatal() or error.name() == "_FATAL":
            self._producer = None

    def close(self) -> None:
        """Lets go of the producer; nothing may be in flight."""
        self._producer = None

    def _start(self) -> Producer:
        producer = self._new(self._config)
        self._producer = producer
        threading.Thread(target=self._collect, args=(producer,), name="kafka-acks", daemon=True).start()
        return producer

    def _collect(self, producer: Producer) -> None:
        while self._producer is producer or len(producer):
            try:
                producer.poll(_POLL_SECONDS)
            except KafkaException as error:
                # What is fatal is raised here too, such as no right to write anywhere. The answers are still to come.
                log.error("kafka refuses this producer", extra={"kafka_error": error.args[0].name()})  # noqa: TRY400 - its text names the broker
                self._drop_if_fatal(error.args[0])

    def _wake(self, delivery: _Delivery) -> None:
        with self._lock:
            self._done.append(delivery)
            if self._waking:
                return
            self._waking = True
        assert self._loop is not None  # noqa: S101 - publish() has set it
        try:
            self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:
            # That loop is closed: nobody waits there any more, and the next one must be woken.
            with self._lock:
                self._done.clear()
                self._waking = False

    def _resolve(self) -> None:
        with self._lock:
            done, self._done = self._done, []
            self._waking = False
        for delivery in done:
            if not delivery.future.done():
                delivery.future.set_result(None)


def _refused(error_name: str) -> UnavailableError | PoisonError:
    if error_name == "MSG_SIZE_TOO_LARGE":
        return PoisonError(Reason("too_large", "", "the event is larger than its topic takes"))
    return UnavailableError(f"Kafka did not confirm: {error_name}")


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """librdkafka's properties. batch.size stays below KafkaSource's max.partition.fetch.bytes (65536):
    larger batches leave all but one partition idle behind a slow sink."""
    return client_config(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 0.5,
        "batch.size": 32768,
        "queue.buffering.max.messages": _QUEUE_MESSAGES,
        "message.max.bytes": topics.MAX_BYTES,
        "delivery.timeout.ms": int(settings.kafka_ack_seconds * 1000),
        "request.timeout.ms": int(settings.kafka_ack_seconds * 1000),
        "partitioner": "murmur2_random",
    }


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    config: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap, "client.id": settings.k_revision}
    if settings.kafka_config_file is not None:
        try:
            lines = settings.kafka_config_file.read_text().splitlines()
        except OSError as error:
            raise BadSettingsError(f"KAFKA_CONFIG_FILE: cannot read it: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadSettingsError("KAFKA_CONFIG_FILE: this is no text file") from None
        pairs = (line.split("=", 1) for line in map(str.strip, lines) if line and not line.startswith("#"))
        for pair in pairs:
            if len(pair) != 2:  # noqa: PLR2004 - a name and a value
                raise BadSettingsError(f"KAFKA_CONFIG_FILE: {pair[0]} has no value")
            config[pair[0].strip()] = pair[1].strip()
    return config
