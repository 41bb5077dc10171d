"""Steady load: one scenario after the other, each sent as a storefront, a payment provider and a warehouse would."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Iterator

import aiohttp

from orderflow.adapters.kafka.producer import KafkaPublisher
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.settings import KafkaSettings
from orderflow_sandbox.messages import Message, OrderScenario, Transport
from orderflow_sandbox.sender import request_of
from tests.chaos.errors import FaultError
from tests.chaos.journal import Journal, now
from tests.chaos.waiting import until

ACCEPTED = 202
_AGAIN_SECONDS = 0.2
_AT_ONCE = 500
"""Scenarios side by side. While intake does not accept, no more are begun."""
_PATIENCE_SECONDS = 180.0
_REMEMBERED = 5000
"""Messages that can be sent again."""


class Load:
    """Sends what is not confirmed again, as every producer has to."""

    def __init__(
        self,
        intake: str,
        bootstrap: str,
        journal: Journal,
        scenarios: Iterator[OrderScenario],
        per_second: float,
    ) -> None:
        self.scenario_count = 0
        self.paused = False
        self.connected = asyncio.Event()
        """While it is not set, producers wait before they send or repeat anything."""
        self.connected.set()
        self._recent: deque[tuple[float, str, Message]] = deque(maxlen=_REMEMBERED)
        self._intake = intake
        self._journal = journal
        self._scenarios = scenarios
        self._pause = 1 / per_second
        self._always = asyncio.Event()
        self._always.set()
        self._ending = False
        self._open_scenarios = 0
        self._publisher = KafkaPublisher(KafkaSettings(kafka_bootstrap=bootstrap, k_revision="storefront"))
        self._http: aiohttp.ClientSession

    async def run(self, most: int | None = None) -> None:
        """Runs until end() is called, or until that many scenarios have begun."""
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        clock = asyncio.get_running_loop()
        due = clock.time()
        try:
            async with asyncio.TaskGroup() as group:
                while not self._ending and (most is None or self.scenario_count < most):
                    if not self.paused and self._open_scenarios < _AT_ONCE:
                        self._open_scenarios += 1
                        group.create_task(self.send(next(self._scenarios))).add_done_callback(
                            self._scenario_done
                        )
                    due = max(due + self._pause, clock.time() - 1)
                    await asyncio.sleep(max(0.0, due - clock.time()))
        finally:
            await self._http.close()
            self._publisher.close()

    def _scenario_done(self, _: asyncio.Task[None]) -> None:
        self._open_scenarios -= 1

    def end(self) -> None:
        self._ending = True

    async def until_sent(self, more: int) -> None:
        target = self.scenario_count + more
        await until(lambda: self.scenario_count >= target, f"{more} more orders", seconds=_PATIENCE_SECONDS)

    async def send(self, scenario: OrderScenario) -> None:
        self.expect(scenario)
        for message in scenario.messages:
            began = now()
            identity = await self._send(message)
            self._journal.confirm(identity, scenario.order_id, began)
            self._recent.append((began, scenario.order_id, message))

    async def send_again(self, since: float) -> None:
        """Sends everything confirmed since then once more, with the same ids and in the sequence of each order, as
        docs/how-to/backup.md asks producers to. Those that are not connected go on only after it."""
        messages: dict[str, list[Message]] = {}
        for began, order_id, message in list(self._recent):
            if began >= since:
                messages.setdefault(order_id, []).append(message)
        await asyncio.gather(*(self._repeat(each) for each in messages.values()))

    async def _repeat(self, messages: list[Message]) -> None:
        for message in messages:
            await self._send(message, self._always)

    async def send_at_once(self, scenarios: list[OrderScenario]) -> None:
        """Publishes all events to the inbox topic at once. Kafka keeps the sequence of an order's events."""
        for scenario in scenarios:
            self.expect(scenario)
        events = [message.event for scenario in scenarios for message in scenario.messages]
        began = now()
        await self._publish([event.with_extensions(partitionkey=event.subject) for event in events])
        for event in events:
            self._journal.confirm((event.source, event.id), event.subject, began)

    def expect(self, scenario: OrderScenario) -> None:
        """Its order has to end where the scenario says."""
        self.scenario_count += 1
        self._journal.add_scenario(scenario, _recipient(scenario))

    async def _send(self, message: Message, connected: asyncio.Event | None = None) -> tuple[str, str]:
        connected = connected or self.connected
        event = message.event
        if message.transport is Transport.KAFKA:
            await self._publish([event.with_extensions(partitionkey=event.subject)], connected)
            return event.source, event.id
        path, body, headers, identity = request_of(message)
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            await connected.wait()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.post(f"{self._intake}{path}", data=body, headers=headers) as answer:
                    if answer.status == ACCEPTED:
                        return identity
                    if answer.status < 500 and answer.status != 429:
                        raise FaultError(f"intake answered {answer.status} to {event.subject}")
            await asyncio.sleep(_AGAIN_SECONDS)
        raise FaultError(f"intake did not take an event of {event.subject}")

    async def _publish(self, events: list, connected: asyncio.Event | None = None) -> None:
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while True:
            await (connected or self.connected).wait()
            try:
                await self._publisher.publish(topics.INBOX, events)
            except TransientError:
                if asyncio.get_running_loop().time() > deadline:
                    raise FaultError("Kafka did not take an event") from None
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return


def _recipient(scenario: OrderScenario) -> str:
    """The customer's address, from what was sent; empty where no order can come of it."""
    for message in scenario.messages:
        if ".placed." in message.event.type:
            with contextlib.suppress(ValueError, KeyError):
                return str(json.loads(message.event.data)["customer"]["email"])
    return ""
