"""Many orders at once while every stage is at zero: when the first and the last have passed, and with how many pods."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.cluster.kube import ClusterError
from tests.cluster.orders import accounted, sender, storefront

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderflow_sandbox.messages import OrderScenario
    from orderflow_sandbox.report import Account
    from tests.cluster.stack import Stack

PIPELINE: Final = ("intake", "validate", "track", "notify")
_LOOK_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 1800.0
_AT_ONCE: Final = 256
_PLACED: Final = "not paid yet"
"""Orders of one event, so that every figure counts orders."""


@dataclass(slots=True)
class Pods:
    """Ready pods by stage over time. at is seconds since the burst began."""

    at: list[float] = field(default_factory=list)
    ready: dict[str, list[int]] = field(default_factory=lambda: {stage: [] for stage in PIPELINE})

    async def follow(self, stack: Stack, began: float) -> None:
        while True:
            counts = await asyncio.to_thread(ready, stack)
            self.at.append(time.monotonic() - began)
            for stage in PIPELINE:
                self.ready[stage].append(counts[stage])
            await asyncio.sleep(_LOOK_SECONDS)

    def seconds(self, stage: str) -> float:
        """Pod seconds: how long pods were ready, added up."""
        steps = zip(self.at, self.at[1:], self.ready[stage], strict=False)
        return sum((after - before) * count for before, after, count in steps)


@dataclass(slots=True)
class Burst:
    """Seconds since the first request was sent."""

    orders: int
    sent: float
    first: dict[str, float]
    last: dict[str, float]
    account: Account
    pods: Pods

    def as_dict(self) -> dict[str, Any]:
        return {
            "orders": self.orders,
            "all_confirmed_s": round(self.sent, 1),
            "first_s": {what: round(at, 2) for what, at in self.first.items()},
            "last_s": {what: round(at, 1) for what, at in self.last.items()},
            "missing": self.account.orders - self.account.accounted,
            "unexpected": len(self.account.unexpected),
            "most_pods": {stage: max(counts) for stage, counts in self.pods.ready.items()},
            "orders_per_pod_second": {
                stage: round(self.orders / self.pods.seconds(stage), 1)
                for stage in PIPELINE
                if self.pods.seconds(stage)
            },
        }


def ready(stack: Stack) -> dict[str, int]:
    """Pods of each Service that take traffic."""
    counts = dict.fromkeys(PIPELINE, 0)
    for pod in stack.kube.items("pods", "--selector=serving.knative.dev/service"):
        service = pod["metadata"]["labels"]["serving.knative.dev/service"]
        conditions = pod["status"].get("conditions", [])
        if service in counts and any(
            each["type"] == "Ready" and each["status"] == "True" for each in conditions
        ):
            counts[service] += 1
    return counts


def until_at_zero(stack: Stack) -> None:
    """Raises ClusterError where a stage stays up."""
    stack.kube.until(600, "the stages at zero", lambda: not any(ready(stack).values()) or None)


async def burst(stack: Stack, orders: int) -> Burst:
    until_at_zero(stack)
    pods = Pods()
    async with sender(stack) as to:
        began, clock = time.monotonic(), time.time()
        following = asyncio.create_task(pods.follow(stack, began))
        try:
            await to.send_scenarios(_placed(orders), at_once=_AT_ONCE)
            sent = time.monotonic() - began
            found = await accounted(stack, to.log, _SETTLE_SECONDS)
        finally:
            following.cancel()
            await asyncio.wait([following])
        ids = [scenario.order_id for scenario in to.log.scenarios]
    if not following.cancelled() and (error := following.exception()):
        raise ClusterError(f"the pods could not be counted: {error}")
    first, last = _times(stack, ids, clock)
    return Burst(orders, sent, first, last, found, pods)


def _placed(orders: int) -> Iterator[OrderScenario]:
    told = (scenario for scenario in storefront(100 * orders, seed=orders) if scenario.name == _PLACED)
    return islice(told, orders)


def _times(stack: Stack, ids: list[str], clock: float) -> tuple[dict[str, float], dict[str, float]]:
    """From the database's own times, which are this machine's."""
    with psycopg.connect(stack.servers.admin_url) as connection:
        tracked = connection.execute(
            "SELECT extract(epoch FROM min(recorded_at)), extract(epoch FROM max(recorded_at))"
            " FROM history WHERE order_id = ANY (%s)",
            [ids],
        ).fetchone()
        notified = connection.execute(
            "SELECT extract(epoch FROM min(finished_at)), extract(epoch FROM max(finished_at))"
            " FROM notifications WHERE order_id = ANY (%s)",
            [ids],
        ).fetchone()
    rows = {"tracked": tracked, "notified": notified}
    times = {what: row for what, row in rows.items() if row is not None}
    return (
        {what: float(row[0]) - clock for what, row in times.items()},
        {what: float(row[1]) - clock for what, row in times.items()},
    )
