"""When rollouts are reconciled: on events, periodically, by the leader only, and despite errors."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from support import waiting
from support.fake_cluster import SERVICE, FakeCluster
from support.rollout_shop import Shop

from knrollout.cluster.errors import ClusterError
from knrollout.controller.loop import Controller
from knrollout.controller.metrics import Metrics


class Leader:
    def __init__(self, *, leads: bool) -> None:
        self.leads = leads

    def __call__(self) -> bool:
        return self.leads


class Setting:
    def __init__(self, cluster: FakeCluster, *, leads: bool = True) -> None:
        self.shop = Shop(cluster)
        self.registry = CollectorRegistry()
        self.leader = Leader(leads=leads)
        self.controller = Controller(cluster, Metrics(self.registry), self.leader, resync_seconds=0.05)
        self.controller.on_rollout("shop", "track", SERVICE)


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    setting = Setting(FakeCluster())
    yield setting
    await setting.controller.stop()


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(waiting.until, condition)


async def test_a_changed_service_reconciles_its_rollout(setting: Setting) -> None:
    canary = setting.shop.cluster.deploy()
    setting.controller.on_service("shop", SERVICE)
    await until(lambda: setting.shop.cluster.shares().get(canary) is None)
    setting.shop.cluster.settle()
    await until(lambda: setting.shop.cluster.tags().get("canary") == canary)


async def test_a_lost_event_is_made_up_for_by_the_resync(setting: Setting) -> None:
    canary = setting.shop.cluster.deploy()
    await until(lambda: setting.shop.cluster.tags().get("canary") == canary)


async def test_a_process_writes_nothing_until_it_leads() -> None:
    setting = Setting(FakeCluster(), leads=False)
    canary = setting.shop.cluster.deploy()
    before = len(setting.shop.cluster.traffic_writes)
    setting.controller.enqueue("shop", "track")
    await asyncio.sleep(0)
    assert len(setting.shop.cluster.traffic_writes) == before
    setting.leader.leads = True
    await until(lambda: setting.shop.cluster.tags().get("canary") == canary)
    await setting.controller.stop()


class Flaky(FakeCluster):
    """The API server does not answer the next requests."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0

    def service(self, namespace: str, name: str) -> Any:
        if self.failures:
            self.failures -= 1
            raise ClusterError("the API server does not answer")
        return super().service(namespace, name)


async def test_a_request_without_an_answer_is_repeated() -> None:
    cluster = Flaky()
    setting = Setting(cluster)
    canary = cluster.deploy()
    cluster.failures = 2
    setting.controller.enqueue("shop", "track")
    await until(lambda: cluster.tags().get("canary") == canary)
    errors = setting.registry.get_sample_value("knrollout_troubles_total", {"kind": "ClusterError"})
    assert errors == 2
    await setting.controller.stop()


async def test_the_phase_is_a_metric_until_the_rollout_is_gone(setting: Setting) -> None:
    labels = {"namespace": "shop", "rollout": "track", "phase": "Healthy"}
    await until(lambda: setting.registry.get_sample_value("knrollout_phase", labels) == 1)
    setting.shop.cluster.remove("rollout", "track")
    setting.controller.enqueue("shop", "track")
    await until(lambda: setting.registry.get_sample_value("knrollout_phase", labels) is None)
