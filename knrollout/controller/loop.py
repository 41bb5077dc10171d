"""Rounds when something happens, when a time has come, and every now and then: one task for each rollout."""

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
    from knrollout.controller.metrics import Measures
    from knrollout.decide.plan import Plan

Key = tuple[str, str]
FIRST_WAIT_SECONDS: Final = 0.2
LOOK_AGAIN_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 30.0
log = logging.getLogger("knrollout")


class Controller:
    """leading says whether this process may write; one that may not looks again every second."""

    def __init__(
        self, cluster: Cluster, measures: Measures, leading: Callable[[], bool], resync_seconds: float
    ) -> None:
        self._cluster = cluster
        self._measures = measures
        self._leading = leading
        self._resync = resync_seconds
        self._stirred: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._by_service: defaultdict[Key, set[str]] = defaultdict(set)

    def rollout_seen(self, namespace: str, name: str, service: str | None) -> None:
        if service is not None:
            self._by_service[namespace, service].add(name)
        self.stir(namespace, name)

    def service_seen(self, namespace: str, service: str) -> None:
        for name in self._by_service[namespace, service]:
            self.stir(namespace, name)

    def stir(self, namespace: str, name: str) -> None:
        """A round is due now. Many at once are one."""
        key = (namespace, name)
        event = self._stirred.setdefault(key, asyncio.Event())
        event.set()
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._lead(key, event))

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _lead(self, key: Key, stirred: asyncio.Event) -> None:
        wait: float | None = 0.0
        trouble = FIRST_WAIT_SECONDS
        while wait is not None:
            await _until(stirred, wait)
            if not self._leading():
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            stirred.clear()
            try:
                wait = await self._round(key)
                trouble = FIRST_WAIT_SECONDS
                if wait is None and stirred.is_set():
                    wait = 0.0  # made anew under the same name
            except (ConflictError, ClusterError) as error:
                self._trouble(key, error)
                wait, trouble = trouble, min(trouble * 2, LONGEST_WAIT_SECONDS)
            except Exception as error:  # noqa: BLE001 - one rollout's fault must not end the others
                self._trouble(key, error)
                wait = LONGEST_WAIT_SECONDS
        self._forget(key)

    async def _round(self, key: Key) -> float | None:
        """Seconds until the next round; None where the rollout is gone."""
        started, now = time.monotonic(), datetime.now(UTC)
        plan = await asyncio.to_thread(reconcile, self._cluster, *key, now)
        self._measures.rounds.observe(time.monotonic() - started)
        if plan is None:
            return None
        self._measures.note(*key, plan)
        self._say(key, plan)
        if plan.wake is None:
            return self._resync
        return min(self._resync, max(0.0, (plan.wake - datetime.now(UTC)).total_seconds()))

    def _say(self, key: Key, plan: Plan) -> None:
        for notice in plan.notices:
            level = logging.WARNING if notice.kind == "Warning" else logging.INFO
            log.log(level, "%s/%s %s: %s", *key, notice.reason, notice.message)

    def _trouble(self, key: Key, error: Exception) -> None:
        self._measures.troubles.labels(type(error).__name__).inc()
        if isinstance(error, ConflictError):
            log.debug("%s/%s was written by somebody else; again", *key)
        elif isinstance(error, ClusterError):
            log.warning("%s/%s: %s", *key, error)
        else:
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s/%s: %s at %s:%s", *key, type(error).__name__, where.filename, where.lineno)

    def _forget(self, key: Key) -> None:
        self._tasks.pop(key, None)
        self._stirred.pop(key, None)
        for names in self._by_service.values():
            names.discard(key[1])
        self._measures.forget(*key)


async def _until(stirred: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stirred.wait(), seconds)
    except TimeoutError:
        return
