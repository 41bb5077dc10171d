"""Sends stories as storefronts, payment providers and warehouses do, and keeps what was confirmed."""

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
from orderflow.errors import UnavailableError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import STRUCTURED, derived_id
from orderflow.settings import KafkaSettings
from orderflow_sandbox.scenarios import Sending, Story, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import Self

    from confluent_kafka import KafkaError, Message

    from orderflow.messaging.cloudevent import Envelope

log = logging.getLogger(__name__)

ATTEMPTS: Final = 10
_ACCEPTED: Final = 202
_TRY_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class NotTakenError(Exception):
    """Intake's answer was none that the story allows."""


@dataclass(slots=True)
class Sent:
    """What was sent. confirmed counts, per (source, id) that the system must know, how often it was confirmed;
    order_of has the order of each."""

    stories: list[Story] = field(default_factory=list)
    confirmed: Counter[tuple[str, str]] = field(default_factory=Counter)
    order_of: dict[tuple[str, str], str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    ways: Counter[Way] = field(default_factory=Counter)
    sendings: int = 0

    def confirm(self, identity: tuple[str, str], order_id: str) -> None:
        self.confirmed[identity] += 1
        self.order_of[identity] = order_id


class Sender:
    """Use as an async context manager. Kafka is spoken to as every producer should: idempotent, acks=all.

    proxy is where to send the requests for intake, as to an ingress whose names no name server knows.
    key is an API key of intake.
    """

    def __init__(self, intake: str, kafka: str, *, proxy: str | None = None, key: str = "") -> None:
        self.sent = Sent()
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

    async def tell(self, stories: Iterable[Story], *, at_once: int = 64, pause: float = 0.0) -> None:
        """Sends every story's events in its order, `at_once` stories side by side, one begun every `pause` s."""
        room = asyncio.Semaphore(at_once)
        async with asyncio.TaskGroup() as group:
            for story in stories:
                await room.acquire()
                self.sent.stories.append(story)
                task = group.create_task(self._one(story))
                task.add_done_callback(lambda _: room.release())
                if pause:
                    await asyncio.sleep(pause)

    async def follow(self, sendings: AsyncIterator[Sending], *, at_once: int = 64) -> None:
        """Sends what comes, as it comes: events of one order in sequence, different orders side by side."""
        room = asyncio.Semaphore(at_once)
        last: dict[str, asyncio.Task[None]] = {}

        async def after(previous: asyncio.Task[None] | None, sending: Sending) -> None:
            if previous is not None:
                await asyncio.wait([previous])
            await self.send(sending)

        async with asyncio.TaskGroup() as group:
            async for sending in sendings:
                await room.acquire()
                order_id = sending.event.subject
                task = group.create_task(after(last.get(order_id), sending))
                last[order_id] = task
                task.add_done_callback(lambda _: room.release())

    async def _one(self, story: Story) -> None:
        for sending in story.sendings:
            await self.send(sending)

    async def send(self, sending: Sending) -> None:
        """Returns when it is confirmed, or refused as it should be; repeats while there is no clear answer."""
        self.sent.sendings += 1
        self.sent.ways[sending.way] += 1
        if sending.way is Way.RAW:
            self.sent.confirm(await self._send_raw(sending.event), sending.event.subject)
        elif sending.way is Way.KAFKA:
            await self._produce(sending.event)
            self.sent.confirm((sending.event.source, sending.event.id), sending.event.subject)
        else:
            await self._post(sending)

    async def _produce(self, event: Envelope) -> None:
        for attempt in range(ATTEMPTS):
            try:
                return await self._publisher.publish(
                    topics.INBOX, [event.with_extensions(partitionkey=event.subject)]
                )
            except UnavailableError:
                await asyncio.sleep(_wait(attempt))
        raise NotTakenError(f"Kafka did not confirm an event in {ATTEMPTS} attempts")

    async def _post(self, sending: Sending) -> None:
        path, body, headers, identity = request_of(sending)
        status = 0
        for attempt in range(ATTEMPTS):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.post(f"{self._intake}{path}", data=body, headers=headers) as answer:
                    status = answer.status
                    document = await answer.json(content_type=None) if status == sending.refused else {}
            if status == _ACCEPTED and not sending.refused:
                self.sent.confirm(identity, sending.event.subject)
                return
            if status == sending.refused and status:
                self.sent.refused[str(document.get("code", status))] += 1
                return
            if status and status not in _TRY_AGAIN:
                break
            await asyncio.sleep(_wait(attempt))
        raise NotTakenError(
            f"intake answered {status or 'nothing'} where {sending.refused or _ACCEPTED} was due"
        )

    async def _send_raw(self, event: Envelope) -> tuple[str, str]:
        """A record that is no CloudEvent; what KafkaSource will call it follows from its place."""
        loop = asyncio.get_running_loop()
        placed: asyncio.Future[tuple[int, int]] = loop.create_future()
        if self._raw is None:
            self._raw = Producer(producer_config(self._settings), logger=log)

        def answered(error: KafkaError | None, message: Message) -> None:
            place = (message.partition() or 0, message.offset() or 0)
            settle: Callable[[], None] = (
                (lambda: placed.set_result(place))
                if error is None
                else (lambda: placed.set_exception(KafkaException(error)))
            )
            loop.call_soon_threadsafe(settle)

        self._raw.produce(topics.INBOX, event.data, event.key, on_delivery=answered)
        await asyncio.to_thread(self._raw.flush)
        partition, offset = await placed
        source = f"/apis/v1/namespaces/orderflow/kafkasources/validate#{topics.INBOX}"
        return source, f"partition:{partition}/offset:{offset}"


def _wait(attempt: int) -> float:
    """Seconds before the next attempt."""
    return 0.1 * 2.0**attempt


def request_of(sending: Sending) -> tuple[str, bytes, dict[str, str], tuple[str, str]]:
    """Path, body, headers, and the (source, id) by which the ledger will know it."""
    event = sending.event
    if sending.way is Way.PLAIN:
        source = "/storefront/local"
        headers = {"Content-Type": "application/json", "Idempotency-Key": sending.key}
        return "/orders", event.data, headers, (source, derived_id("intake", source, sending.key))
    if sending.way is Way.STRUCTURED:
        document = event.attributes() | {
            "datacontenttype": event.content_type,
            "data": json.loads(event.data),
        }
        return "/", json.dumps(document).encode(), {"Content-Type": STRUCTURED}, (event.source, event.id)
    named = {f"ce-{name}": value for name, value in event.attributes().items()}
    return "/", event.data, named | {"Content-Type": event.content_type}, (event.source, event.id)
