"""Publishing to Kafka. An event is published when all in-sync replicas have it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, Producer

from orderflow.errors import BadSettingsError, PoisonError, Reason, TransientError
from orderflow.messaging import topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError, Message

    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.settings import KafkaSettings

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
_QUEUE_MESSAGES: Final = 100_000
_QUEUE_KBYTES: Final = 65_536
_REQUESTS_PER_ACK: Final = 3
"""How many requests fit into the time that a confirmation may take. So a connection that swallows packets is given up,
and the event is sent again over a new one, before its time is over."""


class _Delivery:
    """One publish call: counts the delivery reports that are still to come."""

    __slots__ = ("error_name", "future", "pending")

    def __init__(self, pending: int, future: asyncio.Future[None]) -> None:
        self.pending = pending
        self.future = future
        self.error_name: str | None = None


class KafkaPublisher:
    """An idempotent producer with acks=all, created by connect() or at first use.

    It is not created earlier because a producer that is created before a fork never delivers, and Functions Framework's
    gunicorn forks after it has imported the function. librdkafka's own thread sends. A second thread collects the
    delivery reports and wakes the event loop once for all reports that came together.
    """

    def __init__(
        self, settings: KafkaSettings, create_producer: Callable[[dict[str, Any]], Producer] | None = None
    ) -> None:
        """Raises BadSettingsError where the properties file cannot be read or librdkafka does not accept it."""
        self._config = producer_config(settings)
        # With this logger librdkafka's log lines are JSON; without it librdkafka prints them to stderr itself.
        self._create_producer = create_producer or (lambda config: Producer(config, logger=log))
        if settings.kafka_config_file is not None:
            try:
                self._create_producer(self._config)
            except KafkaException as error:
                raise BadSettingsError(f"KAFKA_CONFIG_FILE: {error.args[0].str()}") from None
        self._producer: Producer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._completed: list[_Delivery] = []
        self._wake_scheduled = False
        self._lock = threading.Lock()

    async def connect(self) -> None:
        """Creates the producer before it is needed. Raises nothing where Kafka is away."""
        if self._producer is None:
            self._start()

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        if not events:
            return
        producer = self._producer or self._start()
        self._loop = asyncio.get_running_loop()
        delivery = _Delivery(len(events), self._loop.create_future())

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                delivery.error_name = error.name()
                self._drop_if_fatal(error)
            delivery.pending -= 1
            if delivery.pending == 0:
                self._complete(delivery)

        try:
            for event in events:
                producer.produce(
                    topic,
                    event.data,
                    event.key or None,
                    headers=event.kafka_headers(),
                    on_delivery=on_delivery,
                )
        except BufferError:
            raise TransientError("Kafka takes no more events: the producer's queue is full") from None
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            self._drop_if_fatal(kafka_error)
            raise _error_of(kafka_error.name()) from None
        await delivery.future
        if delivery.error_name is not None:
            log.warning("kafka did not confirm", extra={"topic": topic, "kafka_error": delivery.error_name})
            raise _error_of(delivery.error_name)

    def _drop_if_fatal(self, error: KafkaError) -> None:
        """After a fatal error an idempotent producer refuses every event, so the next call creates a new producer."""
        if error.fatal() or error.name() == "_FATAL":
            self._producer = None

    def close(self) -> None:
        """Releases the producer. No event may be in flight."""
        self._producer = None

    def _start(self) -> Producer:
        producer = self._create_producer(self._config)
        self._producer = producer
        threading.Thread(target=self._collect, args=(producer,), name="kafka-acks", daemon=True).start()
        return producer

    def _collect(self, producer: Producer) -> None:
        while self._producer is producer or len(producer):
            try:
                producer.poll(_POLL_SECONDS)
            except KafkaException as error:
                # poll() raises fatal errors too, such as a missing right to write. The delivery reports still come.
                log.error("kafka refuses this producer", extra={"kafka_error": error.args[0].name()})  # noqa: TRY400 - its text names the broker
                self._drop_if_fatal(error.args[0])

    def _complete(self, delivery: _Delivery) -> None:
        """Runs in the collecting thread, so it only schedules _resolve() in the event loop."""
        with self._lock:
            self._completed.append(delivery)
            if self._wake_scheduled:
                return
            self._wake_scheduled = True
        assert self._loop is not None  # noqa: S101 - publish() has set it
        try:
            self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:
            # The loop is closed: no caller waits in it, and the next loop must be woken.
            with self._lock:
                self._completed.clear()
                self._wake_scheduled = False

    def _resolve(self) -> None:
        with self._lock:
            completed, self._completed = self._completed, []
            self._wake_scheduled = False
        for delivery in completed:
            if not delivery.future.done():
                delivery.future.set_result(None)


def _error_of(error_name: str) -> TransientError | PoisonError:
    if error_name == "MSG_SIZE_TOO_LARGE":
        return PoisonError(Reason("too_large", "", "the event is larger than its topic takes"))
    return TransientError(f"Kafka did not confirm: {error_name}")


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """librdkafka's properties for the producer. Raises BadSettingsError as client_config() does.

    batch.size stays below KafkaSource's max.partition.fetch.bytes (65536): with larger batches, a slow sink leaves all
    partitions but one idle.
    """
    return client_config(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 0.5,
        "batch.size": 32768,
        "queue.buffering.max.messages": _QUEUE_MESSAGES,
        "queue.buffering.max.kbytes": _QUEUE_KBYTES,
        "socket.keepalive.enable": True,
        "socket.timeout.ms": max(int(settings.kafka_ack_seconds * 1000 / _REQUESTS_PER_ACK), 100),
        "socket.connection.setup.timeout.ms": max(
            int(settings.kafka_ack_seconds * 1000 / _REQUESTS_PER_ACK), 1000
        ),
        "message.max.bytes": topics.MAX_BYTES,
        "delivery.timeout.ms": int(settings.kafka_ack_seconds * 1000),
        "request.timeout.ms": int(settings.kafka_ack_seconds * 1000),
        "partitioner": "murmur2_random",
    }


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """librdkafka's properties for any client. Raises BadSettingsError where the properties file cannot be read."""
    config: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap, "client.id": settings.k_revision}
    if settings.kafka_config_file is not None:
        try:
            lines = settings.kafka_config_file.read_text().splitlines()
        except OSError as error:
            raise BadSettingsError(f"KAFKA_CONFIG_FILE: cannot read it: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadSettingsError("KAFKA_CONFIG_FILE: it is not a text file") from None
        pairs = (line.split("=", 1) for line in map(str.strip, lines) if line and not line.startswith("#"))
        for pair in pairs:
            if len(pair) != 2:  # noqa: PLR2004 - a name and a value
                raise BadSettingsError(f"KAFKA_CONFIG_FILE: {pair[0]} has no value")
            config[pair[0].strip()] = pair[1].strip()
    return config
