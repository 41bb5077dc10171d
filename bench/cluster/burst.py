"""Many orders at once while every stage is at zero pods: when the first and the last order passed each stage, and the
number of pods over time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.cluster.kube import ClusterError
from tests.cluster.orders import sender, settled_account, storefront

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderflow_sandbox.messages import OrderScenario
    from orderflow_sandbox.report import Account
    from tests.cluster.stack import Stack

PIPELINE: Final = ("intake", "validate", "track", "notify")
_POLL_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 1800.0
_IN_FLIGHT: Final = 256
_PLACED: Final = "not paid yet"
"""The scenario with one event per order, so that every figure counts orders."""


@dataclass(slots=True)
class Pods:
    """The number of ready pods by stage over time. at is in seconds since the start of the burst."""

    at: list[float] = field(default_factory=list)
    ready: dict[str, list[int]] = field(default_factory=lambda: {stage: [] for stage in PIPELINE})

    async def follow(self, stack: Stack, started_at: float) -> None:
        while True:
            counts = await asyncio.to_thread(ready, stack)
            self.at.append(time.monotonic() - started_at)
            for stage in PIPELINE:
                self.ready[stage].append(counts[stage])
            await asyncio.sleep(_POLL_SECONDS)

    def seconds(self, stage: str) -> float:
        """Pod seconds: the sum of the times in which each pod was ready."""
        steps = zip(self.at, self.at[1:], self.ready[stage], strict=False)
        return sum((after - before) * count for before, after, count in steps)


@dataclass(slots=True)
class Burst:
    """Times are in seconds since the first request; first and last are by step (`tracked`, `notified`)."""

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
            "first_s": {step: round(at, 2) for step, at in self.first.items()},
            "last_s": {step: round(at, 1) for step, at in self.last.items()},
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
    """The number of ready pods of each Service."""
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
    """Raises ClusterError where a stage does not go to zero."""
    stack.kube.until(600, "the stages at zero", lambda: not any(ready(stack).values()) or None)


async def burst(stack: Stack, orders: int) -> Burst:
    until_at_zero(stack)
    pods = Pods()
    async with sender(stack) as shop:
        started_at, started_time = time.monotonic(), time.time()
        following = asyncio.create_task(pods.follow(stack, started_at))
        try:
            await shop.send_scenarios(_placed(orders), at_once=_IN_FLIGHT)
            sent = time.monotonic() - started_at
            account = await settled_account(stack, shop.log, _SETTLE_SECONDS)
        finally:
            following.cancel()
            await asyncio.wait([following])
        ids = [scenario.order_id for scenario in shop.log.scenarios]
    if not following.cancelled() and (error := following.exception()):
        raise ClusterError(f"the pods could not be counted: {error}")
    first, last = _times(stack, ids, started_time)
    return Burst(orders, sent, first, last, account, pods)


def _placed(orders: int) -> Iterator[OrderScenario]:
    placed = (scenario for scenario in storefront(100 * orders, seed=orders) if scenario.name == _PLACED)
    return islice(placed, orders)


def _times(stack: Stack, ids: list[str], started_time: float) -> tuple[dict[str, float], dict[str, float]]:
    """Uses the database's clock, which is the clock of this machine."""
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
    times = {step: row for step, row in rows.items() if row is not None}
    return (
        {step: float(row[0]) - started_time for step, row in times.items()},
        {step: float(row[1]) - started_time for step, row in times.items()},
    )
