"""One release tried while orders flow: what became of it, and of the orders."""

import asyncio
import base64
import dataclasses
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from orderflow_sandbox import report
from orderflow_sandbox.report import Account
from orderflow_sandbox.sender import Sender
from tests.chaos.groups import Groups
from tests.cluster.canary.met import Met
from tests.cluster.canary.releases import Release
from tests.cluster.canary.rollouts import Controller, Rollouts
from tests.cluster.kube import ClusterError
from tests.cluster.orders import endless, patient
from tests.cluster.stack import Stack

AUDIT_EVERY_SECONDS: Final = 15.0
_ROLLBACK_SECONDS: Final = 420.0
_RELEASE_SECONDS: Final = 900.0
_SETTLE_SECONDS: Final = 300.0
_AFTER_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5
_BEHIND = 3


@dataclass(frozen=True)
class Outcome:
    """seconds: from the first order that met the revision to its share being nothing again; None where one of the two
    never was. ended: the rollout's phase, and why. wrong: orders that ended otherwise than their scenario says.
    """

    release: str
    way: str
    ended: str
    reason: str
    seconds: float | None
    met: int
    deliveries: int
    orders: int
    lost: int
    wrong: int
    kills: int = 0


class Trials:
    """rate is orders a second. All that it waits for has a deadline."""

    def __init__(
        self,
        stack: Stack,
        rollouts: Rollouts,
        controller: Controller,
        met: Met,
        rate: float,
        templates: dict[str, Any],
    ) -> None:
        self._stack = stack
        self._rollouts = rollouts
        self._controller = controller
        self._met = met
        self._rate = rate
        self._templates = templates
        self._numbers = itertools.count(1)

    async def bad(self, release: Release) -> Outcome:
        """It has to be taken back by itself."""
        async with self._orders() as flow:
            revision = await self._released(release)
            zero = await self._until(
                lambda: self._zero_at(release.service, revision), _ROLLBACK_SECONDS, "a rollback"
            )
            status = await asyncio.to_thread(self._rollouts.status, release.service)
            await asyncio.sleep(_AFTER_SECONDS)
        return await self._outcome(release, "KnativeRollout", revision, flow, zero, status)

    async def good(self, release: Release, *, kill: bool = False) -> Outcome:
        """It has to become stable by its steps, which the console shows; kill: the leading controller dies at
        every step. Raises ClusterError.
        """
        kills = 0
        shown = False
        async with self._orders() as flow:
            revision = await self._released(release)
            deadline = time.monotonic() + _RELEASE_SECONDS
            seen: set[tuple[Any, ...]] = set()
            while True:
                status = await asyncio.to_thread(self._rollouts.status, release.service)
                if status.get("stableRevision") == revision and status.get("phase") == "Healthy":
                    break
                ended = status.get("aborted") is not None and status.get("canaryRevision") == revision
                if ended or time.monotonic() > deadline:
                    break
                where = (status.get("currentStepIndex"), status.get("weight"))
                if not shown and status.get("canaryRevision") == revision:
                    shown = await asyncio.to_thread(self._shows, release.service, revision)
                if kill and status.get("canaryRevision") == revision and where not in seen:
                    seen.add(where)
                    await asyncio.to_thread(self._controller.kill)
                    kills += 1
                await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.sleep(_AFTER_SECONDS)
        if not shown:
            raise ClusterError(f"the console did not show {revision} on its way")
        way = "KnativeRollout, controller killed at every step" if kill else "KnativeRollout"
        outcome = await self._outcome(release, way, revision, flow, None, status)
        return dataclasses.replace(outcome, kills=kills)

    async def plain(self, release: Release, seconds: int) -> Outcome:
        """Knative's own gradual rollout, which takes so many seconds and judges nothing. A hand takes it back after.

        The Service has no rollout any more then: these trials come last.
        """
        service = release.service
        await asyncio.to_thread(self._rollouts.leave, service)
        stable = await asyncio.to_thread(self._plainly, service, seconds)
        async with self._orders() as flow:
            revision = await self._released(release)
            await asyncio.sleep(seconds + _AFTER_SECONDS)
            shares = await asyncio.to_thread(self._rollouts.shares, service)
        met = self._met.of(revision)
        await asyncio.to_thread(self._pin, service, stable)
        share = shares.get(revision, 0)
        status = {"phase": f"{share} % after {seconds} s", "message": "nothing took it back"}
        if share == 0:
            status = {"phase": "0 %", "message": "the revision never got ready"}
        return await self._outcome(release, "rollout-duration", revision, flow, None, status, met=met)

    async def _released(self, release: Release) -> str:
        mark = f"{int(time.time())}-{next(self._numbers)}"
        template = release.template(self._templates[release.service], self._met.url, mark)
        return await asyncio.to_thread(self._rollouts.release, release.service, template)

    def _shows(self, service: str, revision: str) -> bool:
        """Is it on the page of its rollout?"""
        stack = self._stack
        key = {"Authorization": f"Bearer {stack.key}"}
        with httpx.Client(proxy=stack.proxy, headers=key, timeout=30) as http:
            page = http.get(f"{stack.url('query')}/rollouts/{service}")
        return page.is_success and revision in page.text

    def _zero_at(self, service: str, revision: str) -> float | None:
        status = self._rollouts.status(service)
        aborted = status.get("aborted") is not None and status.get("canaryRevision") == revision
        gone = aborted and self._rollouts.shares(service).get(revision, 0) == 0
        return time.time() if gone else None

    async def _until(self, look: Any, seconds: float, what: str) -> float | None:
        deadline = time.monotonic() + seconds
        while (found := await asyncio.to_thread(look)) is None:
            if time.monotonic() > deadline:
                sys.stderr.write(f"no {what} in {seconds:g} s\n")
                return None
            await asyncio.sleep(_LOOK_SECONDS)
        return float(found)

    @asynccontextmanager
    async def _orders(self) -> AsyncIterator[Sender]:
        """Orders at a steady rate, and the audit's schedule, for as long as the block lasts."""
        ended = asyncio.Event()
        seed = next(self._numbers)

        async def audits() -> None:
            while not ended.is_set():
                await asyncio.to_thread(self.audit)
                await asyncio.sleep(AUDIT_EVERY_SECONDS)

        told = endless(seed, "canary", ended)
        async with patient(self._stack) as flow, asyncio.TaskGroup() as group:
            group.create_task(flow.send_scenarios(told, at_once=256, pause=1 / self._rate))
            group.create_task(audits())
            try:
                yield flow
            finally:
                ended.set()

    def audit(self) -> int:
        """One run, as the schedule's Job does it; its exit code."""
        servers = self._stack.servers
        environment = os.environ | {
            "KAFKA_BOOTSTRAP": servers.bootstrap,
            "DATABASE_URL": servers.admin_url,
            "NOTIFICATIONS_FILE": str(self._secret("orderflow-notifications") / "notifications.toml"),
            "AUDIT_GRACE_SECONDS": "10",
            "AUDIT_SETTLE_SECONDS": "10",
            "LOG_LEVEL": "ERROR",
        }
        command = [sys.executable, "-m", "functions.audit", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in {0, 1, _BEHIND}:
            raise ClusterError(f"the audit ended with {done.returncode}: {done.stderr.strip()}")
        return done.returncode

    def _secret(self, name: str) -> Path:
        """The files of a Secret, in a folder of this machine."""
        folder = self._stack.options.state / name
        if not folder.exists():
            folder.mkdir()
            for file, content in self._stack.kube.get("secret", name)["data"].items():
                (folder / file).write_bytes(base64.b64decode(content))
        return folder

    async def _accounted(self, flow: Sender) -> Account:
        """Once every stage has had everything and an audit finds nothing missing."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            await Groups(self._stack.servers.bootstrap).until_settled(_SETTLE_SECONDS)
            clean = await asyncio.to_thread(self.audit) == 0
            found = await asyncio.to_thread(report.account, self._stack.servers.admin_url, flow.log)
            if (clean and found.settled) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(_AFTER_SECONDS)

    async def _outcome(
        self,
        release: Release,
        way: str,
        revision: str,
        flow: Sender,
        zero: float | None,
        status: dict[str, Any],
        met: Any = None,
    ) -> Outcome:
        seen = met or self._met.of(revision)
        found = await self._accounted(flow)
        return Outcome(
            release=release.name,
            way=way,
            ended=str(status.get("phase")),
            reason=str(status.get("message", "")),
            seconds=zero - seen.first if zero is not None and seen is not None else None,
            met=len(seen.orders) if seen is not None else 0,
            deliveries=seen.deliveries if seen is not None else 0,
            orders=found.orders,
            lost=len(found.missing_orders),
            wrong=len(found.unexpected),
        )

    def _plainly(self, service: str, seconds: int) -> str:
        """Traffic follows the latest revision, which begins as the one that is stable now."""
        kube = self._rollouts.kube
        kube.kubectl(
            "annotate",
            "ksvc",
            service,
            "--overwrite",
            f"serving.knative.dev/rollout-duration={seconds}s",
        )
        stable = self._rollouts.release(
            service, _marked(self._templates[service], f"plain-{next(self._numbers)}")
        )

        # Until it is ready the latest one is the bad one that was tried before.
        def ready() -> bool | None:
            return kube.get("ksvc", service)["status"].get("latestReadyRevisionName") == stable or None

        kube.until(120, f"{stable} to be ready", ready)
        kube.kubectl(
            *("patch", "ksvc", service, "--type=merge"),
            '--patch={"spec":{"traffic":[{"latestRevision":true,"percent":100}]}}',
        )

        def serves_everything() -> bool | None:
            return self._rollouts.shares(service).get(stable, 0) == 100 or None

        kube.until(seconds + 120, f"{stable} to serve everything", serves_everything)
        return stable

    def _pin(self, service: str, revision: str) -> None:
        patch = f'{{"spec":{{"traffic":[{{"revisionName":"{revision}","percent":100}}]}}}}'
        self._rollouts.kube.kubectl("patch", "ksvc", service, "--type=merge", f"--patch={patch}")


def _marked(template: dict[str, Any], mark: str) -> dict[str, Any]:
    metadata = template.get("metadata", {})
    annotations = {**metadata.get("annotations", {}), "orderflow.dev/trial": mark}
    return {**template, "metadata": {**metadata, "annotations": annotations}}
