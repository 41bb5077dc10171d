"""Orders sent to a deployed pipeline, and what became of them."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from orderflow.sandbox import report
from orderflow.sandbox.cli import EMAILED
from orderflow.sandbox.report import Account
from orderflow.sandbox.scenarios import Story, stories
from orderflow.sandbox.sender import Sender, Sent
from tests.chaos.groups import Groups
from tests.cluster.stack import Stack

_SETTLE_SECONDS = 300.0


def storefront(orders: int, seed: int) -> Iterable[Story]:
    """A stream of orders with ids of this moment; what it tells has happened already."""
    start = datetime.now(UTC) - timedelta(days=2)
    return stories(orders, seed, f"cluster-{seed}-{int(time.time()):x}", start)


def sender(stack: Stack) -> Sender:
    return Sender(stack.url("intake"), stack.servers.bootstrap, proxy=stack.proxy, key=stack.key)


async def accounted(stack: Stack, sent: Sent, seconds: float = _SETTLE_SECONDS) -> Account:
    """Once every stage has had everything. Raises NotSettledError where that takes longer."""
    await Groups(stack.servers.bootstrap).until_settled(seconds)
    return await asyncio.to_thread(report.account, stack.servers.admin_url, sent, EMAILED)
