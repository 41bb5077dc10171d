"""Trials of one release each while orders flow: how the release and the orders end."""

import asyncio
import base64
import contextlib
import dataclasses
import itertools
import json
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
from tests.cluster.canary.deliveries import DeliveryReports, RevisionDeliveries
from tests.cluster.canary.releases import Release
from tests.cluster.canary.rollouts import Controller, Rollouts
from tests.cluster.kube import ClusterError
from tests.cluster.orders import endless, patient_sender, storefront
from tests.cluster.stack import Stack

AUDIT_EVERY_SECONDS: Final = 15.0
_ROLLBACK_SECONDS: Final = 420.0
_RELEASE_SECONDS: Final = 900.0
_SETTLE_SECONDS: Final = 90.0
_AFTER_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5
_BEHIND = 3
_ALL: Final = 100
_KN_ORDER: Final = (sys.executable, "-c", "from orderflow.kn_order.app import main; main()")
_READS_A_SECOND: Final = 10


@dataclass(frozen=True)
class Outcome:
    """seconds is the time from the revision's first delivery until its share of traffic is zero again; None where one
    of the two did not happen. phase and reason are the rollout's. orders_at_revision is the number of orders of which
    the revision received events, deliveries the number of those events. wrong_endings is the number of orders that
    ended otherwise than their scenario says. Both are counted after the repair of what the revision did, for which
    `repaired` events were sent again.
    """

    release: str
    method: str
    phase: str
    reason: str
    seconds: float | None
    orders_at_revision: int
    deliveries: int
    orders: int
    lost: int
    wrong_endings: int
    repaired: int = 0
    kills: int = 0


class Trials:
    """rate is orders a second. Every wait has a deadline."""

    def __init__(
        self,
        stack: Stack,
        rollouts: Rollouts,
        controller: Controller,
        delivery_reports: DeliveryReports,
        rate: float,
        templates: dict[str, Any],
    ) -> None:
        self._stack = stack
        self._rollouts = rollouts
        self._controller = controller
        self._delivery_reports = delivery_reports
        self._rate = rate
        self._templates = templates
        self._numbers = itertools.count(1)

    async def bad(self, release: Release) -> Outcome:
        """Tries a release that the controller must roll back."""
        async with self._orders() as shop, asyncio.TaskGroup() as beside:
            revision = await self._released(release)
            burst = beside.create_task(self._burst(release, revision, shop))
            readers = beside.create_task(self._read(release))
            zero = await self._until(
                lambda: self._zero_at(release.service, revision), _ROLLBACK_SECONDS, "a rollback"
            )
            burst.cancel()
            readers.cancel()
            status = await asyncio.to_thread(self._rollouts.status, release.service)
            await asyncio.sleep(_AFTER_SECONDS)
        return await self._outcome(release, "KnativeRollout", revision, shop, zero, status)

    async def _burst(self, release: Release, revision: str, shop: Sender) -> None:
        """Sends the release's burst once its revision has all traffic."""
        while release.burst:
            shares = await asyncio.to_thread(self._rollouts.shares, release.service)
            if shares.get(revision) == _ALL:
                scenarios = storefront(release.burst, next(self._numbers))
                await shop.send_scenarios(scenarios, at_once=256)
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, release: Release) -> None:
        """Asks query as people do, where query is what is released."""
        stack = self._stack
        key = {"Authorization": f"Bearer {stack.key}"}
        async with httpx.AsyncClient(proxy=stack.proxy, headers=key, timeout=30) as http:
            address = stack.url("query") + "/api/orders?limit=5"
            while release.service == "query":
                with contextlib.suppress(httpx.HTTPError):
                    await http.get(address)
                await asyncio.sleep(1 / _READS_A_SECOND)

    async def good(self, release: Release, *, kill: bool = False) -> Outcome:
        """Tries a release that must become stable step by step. kill ends the leading controller at every step.

        Raises ClusterError where the console does not show the release.
        """
        kills = 0
        is_in_console = False
        async with self._orders() as shop:
            revision = await self._released(release)
            deadline = time.monotonic() + _RELEASE_SECONDS
            positions: set[tuple[Any, ...]] = set()
            while True:
                status = await asyncio.to_thread(self._rollouts.status, release.service)
                if status.get("stableRevision") == revision and status.get("phase") == "Healthy":
                    break
                is_aborted = status.get("aborted") is not None and status.get("canaryRevision") == revision
                if is_aborted or time.monotonic() > deadline:
                    break
                position = (status.get("currentStepIndex"), status.get("weight"))
                if not is_in_console and status.get("canaryRevision") == revision:
                    is_in_console = await asyncio.to_thread(self._console_shows, release.service, revision)
                if kill and status.get("canaryRevision") == revision and position not in positions:
                    positions.add(position)
                    await asyncio.to_thread(self._controller.kill)
                    kills += 1
                await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.sleep(_AFTER_SECONDS)
        if not is_in_console:
            raise ClusterError(f"the console did not show {revision} on its way")
        method = "KnativeRollout, controller killed at every step" if kill else "KnativeRollout"
        outcome = await self._outcome(release, method, revision, shop, None, status)
        return dataclasses.replace(outcome, kills=kills)

    async def plain(self, release: Release, seconds: int) -> Outcome:
        """Tries Knative's own gradual rollout, which takes that many seconds and analyses nothing, and rolls it back.

        The trial deletes the Service's rollout, so these trials come last.
        """
        service = release.service
        await asyncio.to_thread(self._rollouts.leave, service)
        stable = await asyncio.to_thread(self._prepare_plain_rollout, service, seconds)
        async with self._orders() as shop:
            revision = await self._released(release)
            await asyncio.sleep(seconds + _AFTER_SECONDS)
            shares = await asyncio.to_thread(self._rollouts.shares, service)
        deliveries = self._delivery_reports.of(revision)
        await asyncio.to_thread(self._pin, service, stable)
        share = shares.get(revision, 0)
        status = {"phase": f"{share} % after {seconds} s", "message": "nothing took it back"}
        if share == 0:
            status = {"phase": "0 %", "message": "the revision never got ready"}
        return await self._outcome(release, "rollout-duration", revision, shop, None, status, deliveries)

    async def _released(self, release: Release) -> str:
        mark = f"{int(time.time())}-{next(self._numbers)}"
        template = release.template(self._templates[release.service], self._delivery_reports.url, mark)
        return await asyncio.to_thread(self._rollouts.release, release.service, template)

    def _console_shows(self, service: str, revision: str) -> bool:
        """Whether the console's page of the rollout shows the revision."""
        stack = self._stack
        key = {"Authorization": f"Bearer {stack.key}"}
        with httpx.Client(proxy=stack.proxy, headers=key, timeout=30) as http:
            page = http.get(f"{stack.url('query')}/rollouts/{service}")
        return page.is_success and revision in page.text

    def _zero_at(self, service: str, revision: str) -> float | None:
        status = self._rollouts.status(service)
        aborted = status.get("aborted") is not None and status.get("canaryRevision") == revision
        is_at_zero = aborted and self._rollouts.shares(service).get(revision, 0) == 0
        return time.time() if is_at_zero else None

    async def _until(self, look: Any, seconds: float, event: str) -> float | None:
        deadline = time.monotonic() + seconds
        while (moment := await asyncio.to_thread(look)) is None:
            if time.monotonic() > deadline:
                sys.stderr.write(f"no {event} in {seconds:g} s\n")
                return None
            await asyncio.sleep(_LOOK_SECONDS)
        return float(moment)

    @asynccontextmanager
    async def _orders(self) -> AsyncIterator[Sender]:
        """Sends orders at a steady rate and runs the audit on a schedule while the block runs."""
        ended = asyncio.Event()
        seed = next(self._numbers)

        async def audits() -> None:
            while not ended.is_set():
                await asyncio.to_thread(self.audit)
                await asyncio.sleep(AUDIT_EVERY_SECONDS)

        scenarios = endless(seed, "canary", ended)
        async with patient_sender(self._stack) as shop, asyncio.TaskGroup() as group:
            group.create_task(shop.send_scenarios(scenarios, at_once=256, pause=1 / self._rate))
            group.create_task(audits())
            try:
                yield shop
            finally:
                ended.set()

    def audit(self) -> int:
        """Runs the audit like the scheduled Job. Returns its exit code."""
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
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if process.returncode not in {0, 1, _BEHIND}:
            raise ClusterError(f"the audit ended with {process.returncode}: {process.stderr.strip()}")
        return process.returncode

    def _secret(self, name: str) -> Path:
        """The files of a Secret, in a folder of this machine."""
        folder = self._stack.options.state / name
        if not folder.exists():
            folder.mkdir()
            for file, content in self._stack.kube.get("secret", name)["data"].items():
                (folder / file).write_bytes(base64.b64decode(content))
        return folder

    async def _settled_account(self, shop: Sender) -> Account:
        """The account once every stage has consumed all events and an audit finds nothing missing."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            await Groups(self._stack.servers.bootstrap).until_settled(_SETTLE_SECONDS)
            clean = await asyncio.to_thread(self.audit) == 0
            account = await asyncio.to_thread(report.account, self._stack.servers.admin_url, shop.log)
            if (clean and account.settled) or time.monotonic() > deadline:
                return account
            await asyncio.sleep(_AFTER_SECONDS)

    async def _outcome(
        self,
        release: Release,
        method: str,
        revision: str,
        shop: Sender,
        zero_at: float | None,
        status: dict[str, Any],
        deliveries: RevisionDeliveries | None = None,
    ) -> Outcome:
        deliveries = deliveries or self._delivery_reports.of(revision)
        is_back = zero_at is not None
        repaired = await asyncio.to_thread(self._repair, revision) if is_back else 0
        account = await self._settled_account(shop)
        return Outcome(
            release=release.name,
            method=method,
            phase=str(status.get("phase")),
            reason=str(status.get("message", "")),
            seconds=zero_at - deliveries.first_at if zero_at is not None and deliveries is not None else None,
            orders_at_revision=len(deliveries.orders) if deliveries is not None else 0,
            deliveries=deliveries.count if deliveries is not None else 0,
            orders=account.orders,
            lost=len(account.missing_orders),
            wrong_endings=len(account.unexpected),
            repaired=repaired,
        )

    def _repair(self, revision: str) -> int:
        """Runs `kn order repair`. Returns the number of events that it sent again."""
        command = [
            *_KN_ORDER,
            "repair",
            "--revision",
            revision,
            "--yes",
            "--why",
            "trial",
            "--output",
            "json",
        ]
        process = subprocess.run(
            command, env=self._stack.environment(), capture_output=True, text=True, check=False
        )
        if process.returncode not in {0, 1}:
            raise ClusterError(f"the repair ended with {process.returncode}: {process.stderr.strip()}")
        return len(json.loads(process.stdout or "{}").get("taken", ()))

    def _prepare_plain_rollout(self, service: str, seconds: int) -> str:
        """Makes traffic follow the latest revision, at first a copy of the stable one. Returns the copy's name."""
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

        # Until the copy is ready, the latest ready revision is the bad release of the previous trial.
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
