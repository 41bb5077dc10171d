"""Orders that tests send to a deployed pipeline, and the account of their results."""

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
_SEND_ATTEMPTS = 5


class PatientSender(Sender):
    """A storefront that sends a message again, with the same id, where no confirmation arrives in time."""

    async def send(self, message: Message) -> None:
        for _ in range(_SEND_ATTEMPTS):
            with contextlib.suppress(TransientError, NotAcceptedError):
                return await super().send(message)
        return await super().send(message)


def storefront(orders: int, seed: int) -> Iterable[OrderScenario]:
    """Scenarios of orders whose ids contain the current time. Their events lie in the past."""
    start = datetime.now(UTC) - timedelta(days=2)
    return order_scenarios(orders, seed, f"cluster-{seed}-{int(time.time()):x}", start)


def sender(stack: Stack) -> Sender:
    return Sender(stack.url("intake"), stack.servers.bootstrap, proxy=stack.proxy, key=stack.key)


def patient_sender(stack: Stack) -> PatientSender:
    return PatientSender(stack.url("intake"), stack.servers.bootstrap, proxy=stack.proxy, key=stack.key)


def endless(seed: int, prefix: str, ended: asyncio.Event) -> Iterator[OrderScenario]:
    """Scenarios until the event is set."""
    start = datetime.now(UTC) - timedelta(days=2)
    for scenario in order_scenarios(1_000_000, seed, f"{prefix}-{seed}-{int(time.time()):x}", start):
        if ended.is_set():
            return
        # A record that is no CloudEvent gets a source with the namespace of the KafkaSource, which differs here.
        if all(message.transport is not Transport.RAW for message in scenario.messages):
            yield scenario


async def settled_account(stack: Stack, log: SendLog, seconds: float = _SETTLE_SECONDS) -> Account:
    """The account once every stage has consumed all events. Raises NotSettledError where this takes longer."""
    await Groups(stack.servers.bootstrap).until_settled(seconds)
    return await asyncio.to_thread(report.account, stack.servers.admin_url, log)
