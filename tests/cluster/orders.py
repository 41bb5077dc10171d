"""Orders sent to a deployed pipeline, and what became of them."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from orderflow.errors import TransientError
from orderflow_sandbox import report
from orderflow_sandbox.messages import Message, OrderScenario, Transport
from orderflow_sandbox.report import Account
from orderflow_sandbox.scenarios import order_scenarios
from orderflow_sandbox.sender import NotAcceptedError, Sender, SendLog
from tests.chaos.groups import Groups
from tests.cluster.stack import Stack

_SETTLE_SECONDS = 300.0
_SENT_AT_MOST = 5


class Patient(Sender):
    """A storefront that sends again where nothing is confirmed in time, under the same id."""

    async def send(self, message: Message) -> None:
        for _ in range(_SENT_AT_MOST):
            with contextlib.suppress(TransientError, NotAcceptedError):
                return await super().send(message)
        return await super().send(message)


def storefront(orders: int, seed: int) -> Iterable[OrderScenario]:
    """A stream of orders with ids of this moment; what it tells has happened already."""
    start = datetime.now(UTC) - timedelta(days=2)
    return order_scenarios(orders, seed, f"cluster-{seed}-{int(time.time()):x}", start)


def sender(stack: Stack) -> Sender:
    return Sender(stack.url("intake"), stack.servers.bootstrap, proxy=stack.proxy, key=stack.key)


def patient(stack: Stack) -> Patient:
    return Patient(stack.url("intake"), stack.servers.bootstrap, proxy=stack.proxy, key=stack.key)


def endless(seed: int, prefix: str, ended: asyncio.Event) -> Iterator[OrderScenario]:
    """Scenarios until the event is set."""
    start = datetime.now(UTC) - timedelta(days=2)
    for scenario in order_scenarios(1_000_000, seed, f"{prefix}-{seed}-{int(time.time()):x}", start):
        if ended.is_set():
            return
        # What is no CloudEvent gets a source with the namespace of the KafkaSource, which is another here.
        if all(message.transport is not Transport.RAW for message in scenario.messages):
            yield scenario


async def accounted(stack: Stack, sent: SendLog, seconds: float = _SETTLE_SECONDS) -> Account:
    """Once every stage has had everything. Raises NotSettledError where that takes longer."""
    await Groups(stack.servers.bootstrap).until_settled(seconds)
    return await asyncio.to_thread(report.account, stack.servers.admin_url, sent)
