"""Cold starts, from zero pods to the first response: each stage as shipped, and other ways to start the same code."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

import httpx

from bench.cluster.events import CALLS, Call
from bench.cluster.ways import deploy
from tests.cluster.kube import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.cluster.ways import Way
    from tests.cluster.kube import Kube

_FAST_TO_ZERO: Final = {
    "autoscaling.knative.dev/window": "6s",
    "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
    "autoscaling.knative.dev/min-scale": "0",
    "autoscaling.knative.dev/max-scale": "1",
}
_ZERO_SECONDS: Final = 240.0
_SETTLE_SECONDS: Final = 2.0
"""The pause between starts, so that the cluster's work after one start does not slow the next one."""
_RESPONSE_SECONDS: Final = 60.0
_BEGAN: Final = "began"
_LISTENING: Final = "Application startup complete"
_STARTED: Final = """\
import time
ticks = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])
up = float(open("/proc/uptime").read().split()[0])
print(time.time() - up + ticks / 100)
"""


@dataclass(slots=True)
class Starts:
    """Seconds of each start: until the response, until the process began, until it listened; and of a second event."""

    stage: str
    way: str
    answered: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    listened: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "way": self.way,
            "starts": len(self.answered),
            "p50_s": round(median(self.answered), 3),
            "p90_s": round(quantiles(self.answered, n=10)[-1], 3),
            "process_began_s": round(median(self.began), 3),
            "listened_s": round(median(self.listened), 3) if self.listened else None,
            "second_event_ms": round(1000 * median(self.warm), 1),
        }

    def each(self) -> dict[str, list[float]]:
        """The seconds of every start until the response and until the process began."""
        return {
            "answered_s": [round(at, 3) for at in self.answered],
            "began_s": [round(at, 3) for at in self.began],
        }


class Cold:
    """Copies of the stages' Services that go to zero as soon as Knative allows."""

    def __init__(self, kube: Kube, gateway: str, key: str) -> None:
        """gateway is host:port of the gateway for cluster-local Services, key an API key for intake."""
        self._kube = kube
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=f"http://{gateway}", timeout=_RESPONSE_SECONDS, headers=headers)
        self._hosts: dict[str, str] = {}

    def measure(self, stages: list[str], ways: list[Way], rounds: int) -> Iterator[Starts]:
        """Measures the stages and ways in turn, so that other load on the machine affects all alike."""
        all_starts = {(stage, way.name): Starts(stage, way.name) for stage in stages for way in ways}
        names = {
            (stage, way.name): f"cold-{stage}-{number}" for stage in stages for number, way in enumerate(ways)
        }
        try:
            for stage in stages:
                for way in ways:
                    name = names[stage, way.name]
                    self._hosts[name] = deploy(self._kube, stage, way, name, _FAST_TO_ZERO)
            for number in range(rounds + 1):
                for key, starts in all_starts.items():
                    # The first start does not count, because it also reads the image's layers from disk.
                    self._start(names[key], CALLS[key[0]], starts if number else Starts(*key))
        finally:
            self._kube.kubectl("delete", "ksvc", *names.values(), "--ignore-not-found", "--wait=false")
        yield from all_starts.values()

    def _start(self, name: str, make: Callable[[], Call], starts: Starts) -> None:
        self._kube.until(_ZERO_SECONDS, f"{name} at zero", lambda: not self._pods(name) or None)
        time.sleep(_SETTLE_SECONDS)
        sent_at = time.time()
        self._send(name, make())
        starts.answered.append(time.time() - sent_at)
        second_sent_at = time.perf_counter()
        self._send(name, make())
        starts.warm.append(time.perf_counter() - second_sent_at)
        (pod,) = self._pods(name)
        lines = self._kube.kubectl("logs", pod, "--container=user-container", "--timestamps").splitlines()
        began = _times_of(lines, _BEGAN) or [
            float(
                self._kube.kubectl(
                    "exec", pod, "--container=user-container", "--", "python", "-S", "-c", _STARTED
                )
            )
        ]
        starts.began += [at - sent_at for at in began]
        starts.listened += [at - sent_at for at in _times_of(lines, _LISTENING)]

    def _pods(self, name: str) -> list[str]:
        """The pods that are not being deleted."""
        pods = [pod["metadata"] for pod in self._kube.pods(name)]
        return [pod["name"] for pod in pods if "deletionTimestamp" not in pod]

    def _send(self, name: str, call: Call) -> None:
        headers = call.headers | {"Host": self._hosts[name]}
        response = self._http.post(call.path, headers=headers, content=call.body)
        if not response.is_success:
            raise ClusterError(f"{name} answered {response.status_code}: {json.dumps(response.text[:200])}")


def _times_of(lines: list[str], message: str) -> list[float]:
    """The Kubernetes timestamps of the log lines with this message, in seconds since 1970."""
    times = [line.partition(" ")[0] for line in lines if line.endswith(message) or f"{message}." in line]
    return [datetime.fromisoformat(time).timestamp() for time in times]
