"""Sends messages as storefronts, payment providers and warehouses do, and keeps a log of what was confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from confluent_kafka import KafkaException, Producer

from orderflow.adapters.kafka.producer import KafkaPublisher, producer_config
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import STRUCTURED, derived_id
from orderflow.settings import KafkaSettings
from orderflow_sandbox.messages import Message, OrderScenario, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import Self

    from confluent_kafka import KafkaError
    from confluent_kafka import Message as KafkaMessage

    from orderflow.messaging.cloudevent import CloudEvent

_log = logging.getLogger(__name__)

ATTEMPTS: Final = 10
_ACCEPTED: Final = 202
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})


class NotAcceptedError(Exception):
    """Intake or Kafka did not accept a message, or intake did not refuse one as it should."""


@dataclass(slots=True)
class SendLog:
    """What was sent. `confirmed` counts the confirmations by (source, id): the system must know each of these events.
    `order_of` has the order id of each."""

    scenarios: list[OrderScenario] = field(default_factory=list)
    confirmed: Counter[tuple[str, str]] = field(default_factory=Counter)
    order_of: dict[tuple[str, str], str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    transports: Counter[Transport] = field(default_factory=Counter)
    messages: int = 0

    def confirm(self, identity: tuple[str, str], order_id: str) -> None:
        self.confirmed[identity] += 1
        self.order_of[identity] = order_id


class Sender:
    """An async context manager. To Kafka it is a producer as it should be: idempotent, with acks=all.

    `proxy` is an HTTP proxy for the requests to intake, such as an ingress whose host names are in no DNS. `key` is an
    API key of intake.
    """

    def __init__(self, intake: str, kafka: str, *, proxy: str | None = None, key: str = "") -> None:
        self.log = SendLog()
        self._intake = intake
        self._proxy = proxy
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._settings = KafkaSettings(kafka_bootstrap=kafka, k_revision="storefront")
        self._publisher = KafkaPublisher(self._settings)
        self._raw: Producer | None = None
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(connector=connector, proxy=self._proxy, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        self._publisher.close()

    async def send_scenarios(
        self, scenarios: Iterable[OrderScenario], *, at_once: int = 64, pause: float = 0.0
    ) -> None:
        """Sends the messages of a scenario in sequence, and `at_once` scenarios in parallel.

        `pause` is the time between the starts of two scenarios, in seconds.
        """
        room = asyncio.Semaphore(at_once)
        async with asyncio.TaskGroup() as group:
            for scenario in scenarios:
                await room.acquire()
                self.log.scenarios.append(scenario)
                task = group.create_task(self._send_in_sequence(scenario))
                task.add_done_callback(lambda _: room.release())
                if pause:
                    await asyncio.sleep(pause)

    async def send_stream(self, messages: AsyncIterator[Message], *, at_once: int = 64) -> None:
        """Sends messages as they come: those of one order in sequence, those of different orders in parallel."""
        room = asyncio.Semaphore(at_once)
        last: dict[str, asyncio.Task[None]] = {}

        async def send_after(previous: asyncio.Task[None] | None, message: Message) -> None:
            if previous is not None:
                await asyncio.wait([previous])
            await self.send(message)

        async with asyncio.TaskGroup() as group:
            async for message in messages:
                await room.acquire()
                order_id = message.event.subject
                task = group.create_task(send_after(last.get(order_id), message))
                last[order_id] = task
                task.add_done_callback(lambda _: room.release())

    async def _send_in_sequence(self, scenario: OrderScenario) -> None:
        for message in scenario.messages:
            await self.send(message)

    async def send(self, message: Message) -> None:
        """Returns when the message is confirmed, or refused as it should be; retries until then.

        Raises NotAcceptedError.
        """
        event = message.event
        self.log.messages += 1
        self.log.transports[message.transport] += 1
        if message.transport is Transport.RAW:
            self.log.confirm(await self._send_raw(event), event.subject)
        elif message.transport is Transport.KAFKA:
            await self._produce(event)
            self.log.confirm((event.source, event.id), event.subject)
        else:
            await self._post(message)

    async def _produce(self, event: CloudEvent) -> None:
        for attempt in range(ATTEMPTS):
            try:
                return await self._publisher.publish(
                    topics.INBOX, [event.with_extensions(partitionkey=event.subject)]
                )
            except TransientError:
                await asyncio.sleep(_wait(attempt))
        raise NotAcceptedError(f"Kafka did not confirm an event in {ATTEMPTS} attempts")

    async def _post(self, message: Message) -> None:
        path, body, headers, identity = request_of(message)
        status = 0
        for attempt in range(ATTEMPTS):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.post(f"{self._intake}{path}", data=body, headers=headers) as response:
                    status = response.status
                    document = await response.json(content_type=None) if status == message.refusal else {}
            if status == _ACCEPTED and not message.refusal:
                self.log.confirm(identity, message.event.subject)
                return
            if status == message.refusal and status:
                self.log.refused[str(document.get("code", status))] += 1
                return
            if status and status not in _RETRIED:
                break
            await asyncio.sleep(_wait(attempt))
        raise NotAcceptedError(
            f"intake answered {status or 'nothing'} where {message.refusal or _ACCEPTED} was expected"
        )

    async def _send_raw(self, event: CloudEvent) -> tuple[str, str]:
        """Sends a record that is no CloudEvent. Returns the source and id that KafkaSource makes of its place."""
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[tuple[int, int]] = loop.create_future()
        if self._raw is None:
            self._raw = Producer(producer_config(self._settings), logger=_log)

        def on_delivery(error: KafkaError | None, message: KafkaMessage) -> None:
            place = (message.partition() or 0, message.offset() or 0)
            settle: Callable[[], None] = (
                (lambda: delivered.set_result(place))
                if error is None
                else (lambda: delivered.set_exception(KafkaException(error)))
            )
            loop.call_soon_threadsafe(settle)

        self._raw.produce(topics.INBOX, event.data, event.key, on_delivery=on_delivery)
        await asyncio.to_thread(self._raw.flush)
        partition, offset = await delivered
        source = f"/apis/v1/namespaces/orderflow/kafkasources/validate#{topics.INBOX}"
        return source, f"partition:{partition}/offset:{offset}"


def _wait(attempt: int) -> float:
    """Seconds before the next attempt."""
    return 0.1 * 2.0**attempt


def request_of(message: Message) -> tuple[str, bytes, dict[str, str], tuple[str, str]]:
    """Path, body, headers, and the (source, id) under which the ledger will have the event."""
    event = message.event
    if message.transport is Transport.PLAIN:
        source = "/storefront/local"
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.key}
        return "/orders", event.data, headers, (source, derived_id("intake", source, message.key))
    if message.transport is Transport.STRUCTURED:
        document = event.attributes() | {
            "datacontenttype": event.content_type,
            "data": json.loads(event.data),
        }
        return "/", json.dumps(document).encode(), {"Content-Type": STRUCTURED}, (event.source, event.id)
    attributes = {f"ce-{name}": value for name, value in event.attributes().items()}
    return "/", event.data, attributes | {"Content-Type": event.content_type}, (event.source, event.id)
