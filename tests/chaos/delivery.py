"""The delivery process, more than one where a fault asks for it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp

from orderflow_sandbox.address import free_port
from orderflow_sandbox.servers.child import Child, Step
from tests.chaos import manifests
from tests.chaos.errors import FaultError

_STOP_SECONDS = 20.0
_READY_SECONDS = 30.0


class Delivery:
    """Starts and ends delivery processes of all KafkaSources."""

    def __init__(self, state: Path, bootstrap: str, ingress: str) -> None:
        self._state = state
        self._bootstrap = bootstrap
        self.ingress = ingress
        self._children: list[Child] = []
        self._started = 0

    async def start(self, policy: str = "patient", *, through: str = "", away: tuple[str, ...] = ()) -> None:
        """One more process. through is a proxy before the ingress; away are Services that nobody can reach."""
        port = free_port()
        nowhere = free_port()
        self._started += 1
        logs = self._state / "logs"
        logs.mkdir(exist_ok=True)
        command = [
            *(sys.executable, "-m", "orderflow_sandbox.delivery"),
            *("--manifests", str(manifests.sources(self._state / "kafka-source", policy))),
            *("--bootstrap", self._bootstrap, "--namespace", "orderflow"),
            *("--sink-url", through or self.ingress),
            *("--host-template", "{name}.{namespace}.svc.cluster.local", "--metrics-port", str(port)),
            *(f"--sink={name}=http://127.0.0.1:{nowhere}" for name in away),
        ]
        child = Child(
            command,
            console=logs / f"delivery-{self._started}.log",
            on_orphaned=signal.SIGKILL,
            env=dict(os.environ) | {"PYTHONPATH": str(manifests.ROOT)},
        )
        self._children.append(child)
        await _until_answers(f"http://127.0.0.1:{port}/stats", child)

    @property
    def running(self) -> int:
        return len(self._children)

    async def stop(self, which: int = -1) -> None:
        """As Kubernetes ends a pod: SIGTERM, and time to commit."""
        child = self._children.pop(which)
        await asyncio.to_thread(child.stop, Step(signal.SIGTERM, _STOP_SECONDS))

    async def kill(self, which: int = -1) -> None:
        child = self._children.pop(which)
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.wait, _STOP_SECONDS)

    async def stop_all(self) -> None:
        while self._children:
            await self.stop()

    async def restart(
        self, policy: str = "patient", *, through: str = "", away: tuple[str, ...] = ()
    ) -> None:
        await self.stop_all()
        await self.start(policy, through=through, away=away)


async def _until_answers(url: str, child: Child) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientError:
                if not child.alive or asyncio.get_running_loop().time() > deadline:
                    raise FaultError("the delivery did not start") from None
                await asyncio.sleep(0.05)
