"""When rollouts are reconciled: on an event, at the time that the last plan named, and periodically."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from knrollout.cluster.errors import ClusterError, ConflictError
from knrollout.controller.reconcile import reconcile

if TYPE_CHECKING:
    from collections.abc import Callable

    from knrollout.cluster.port import Cluster
    from knrollout.controller.metrics import Metrics
    from knrollout.decide.plan import Plan

Key = tuple[str, str]
"""Namespace and name."""
MIN_BACKOFF_SECONDS: Final = 0.2
MAX_BACKOFF_SECONDS: Final = 30.0
STANDBY_SECONDS: Final = 1.0
"""How often a process that does not lead looks whether it leads now."""
log = logging.getLogger("knrollout")


class Controller:
    """One task for each rollout. is_leader: whether this process may write."""

    def __init__(
        self, cluster: Cluster, metrics: Metrics, is_leader: Callable[[], bool], resync_seconds: float
    ) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._is_leader = is_leader
        self._resync_seconds = resync_seconds
        self._triggers: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._rollouts_of_service: defaultdict[Key, set[str]] = defaultdict(set)

    def on_rollout(self, namespace: str, name: str, service: str | None) -> None:
        if service is not None:
            self._rollouts_of_service[namespace, service].add(name)
        self.enqueue(namespace, name)

    def on_service(self, namespace: str, service: str) -> None:
        for name in self._rollouts_of_service[namespace, service]:
            self.enqueue(namespace, name)

    def enqueue(self, namespace: str, name: str) -> None:
        """Reconciles the rollout as soon as possible. Calls that come before that are one."""
        key = (namespace, name)
        trigger = self._triggers.setdefault(key, asyncio.Event())
        trigger.set()
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._run(key, trigger))

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, key: Key, trigger: asyncio.Event) -> None:
        delay: float | None = 0.0
        backoff = MIN_BACKOFF_SECONDS
        while delay is not None:
            await _wait_for(trigger, delay)
            if not self._is_leader():
                await asyncio.sleep(STANDBY_SECONDS)
                continue
            trigger.clear()
            try:
                delay = await self._reconcile(key)
                backoff = MIN_BACKOFF_SECONDS
                if delay is None and trigger.is_set():
                    delay = 0.0  # another rollout of the same name was created
            except (ConflictError, ClusterError) as error:
                self._report(key, error)
                delay, backoff = backoff, min(backoff * 2, MAX_BACKOFF_SECONDS)
            except Exception as error:  # noqa: BLE001 - one rollout's error must not end the others
                self._report(key, error)
                delay = MAX_BACKOFF_SECONDS
        self._forget(key)

    async def _reconcile(self, key: Key) -> float | None:
        """Seconds until the next reconciliation; None if the rollout is gone."""
        start, now = time.monotonic(), datetime.now(UTC)
        plan = await asyncio.to_thread(reconcile, self._cluster, *key, now)
        self._metrics.reconcile_seconds.observe(time.monotonic() - start)
        if plan is None:
            return None
        self._metrics.record(*key, plan)
        self._log_events(key, plan)
        if plan.requeue_at is None:
            return self._resync_seconds
        delay = (plan.requeue_at - datetime.now(UTC)).total_seconds()
        return min(self._resync_seconds, max(0.0, delay))

    def _log_events(self, key: Key, plan: Plan) -> None:
        for event in plan.events:
            level = logging.WARNING if event.type == "Warning" else logging.INFO
            log.log(level, "%s/%s %s: %s", *key, event.reason, event.message)

    def _report(self, key: Key, error: Exception) -> None:
        self._metrics.errors.labels(type(error).__name__).inc()
        if isinstance(error, ConflictError):
            log.debug("%s/%s was written by somebody else; it is reconciled again", *key)
        elif isinstance(error, ClusterError):
            log.warning("%s/%s: %s", *key, error)
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s/%s: %s at %s:%s", *key, type(error).__name__, frame.filename, frame.lineno)

    def _forget(self, key: Key) -> None:
        self._tasks.pop(key, None)
        self._triggers.pop(key, None)
        for rollouts in self._rollouts_of_service.values():
            rollouts.discard(key[1])
        self._metrics.remove(*key)


async def _wait_for(trigger: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(trigger.wait(), seconds)
    except TimeoutError:
        return
