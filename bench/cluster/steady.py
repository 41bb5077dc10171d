"""The events per second and the CPU of one busy pod: each stage alone, with many events in flight."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench.cluster.events import CALLS
from bench.cluster.ways import deploy
from bench.load import request, send
from tests.cluster.kube import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.cluster.ways import Way
    from tests.cluster.kube import Kube

IN_FLIGHT: Final = 32
_WARM_UP_EVENTS: Final = 300
_ONE_POD: Final = {"autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/max-scale": "1"}
_CPU: Final = """\
import os
ticks = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    ticks += int(fields[11]) + int(fields[12])
print(ticks / os.sysconf("SC_CLK_TCK"))
"""


@dataclass(slots=True)
class Pod:
    """The rounds of one pod: events per second, and CPU milliseconds of the stage's container per event."""

    stage: str
    way: str
    events: int
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "way": self.way,
            "events": self.events,
            "per_second": round(median(self.rates)),
            "cpu_ms": round(median(self.cpu_ms), 2),
        }


def steady(
    kube: Kube, gateway: str, key: str, stages: list[str], ways: list[Way], rounds: int, events: int
) -> Iterator[Pod]:
    """Measures the ways of a stage in turn. gateway is host:port of the gateway for cluster-local Services; key is an
    API key for intake."""
    for stage in stages:
        names = {way.name: f"steady-{stage}-{number}" for number, way in enumerate(ways)}
        pods = {way.name: Pod(stage, way.name, events) for way in ways}
        try:
            hosts = {way.name: deploy(kube, stage, way, names[way.name], _ONE_POD) for way in ways}
            for way in ways:
                _load(gateway, key, stage, hosts[way.name], _WARM_UP_EVENTS)
            for _ in range(rounds):
                for way in ways:
                    _round(kube, gateway, key, hosts[way.name], names[way.name], pods[way.name])
        finally:
            kube.kubectl("delete", "ksvc", *names.values(), "--ignore-not-found", "--wait=false")
        yield from pods.values()


def _round(kube: Kube, gateway: str, key: str, host: str, name: str, pod: Pod) -> None:
    before = _cpu(kube, name)
    seconds = _load(gateway, key, pod.stage, host, pod.events)
    pod.rates.append(pod.events / seconds)
    pod.cpu_ms.append(1000 * (_cpu(kube, name) - before) / pod.events)


def _load(gateway: str, key: str, stage: str, host: str, events: int) -> float:
    """Sends the events and returns the seconds. Raises ClusterError where a response is not a 2xx."""
    queues: list[list[bytes]] = [[] for _ in range(IN_FLIGHT)]
    for number in range(events):
        call = CALLS[stage]()
        headers = call.headers | {"Authorization": f"Bearer {key}"}
        queues[number % IN_FLIGHT].append(request(call.path, headers, call.body, host))
    address, _, port = gateway.rpartition(":")
    responses = send(int(port), queues, address)
    if any(status >= 300 for status in responses.statuses):
        raise ClusterError(f"{stage} answered {json.dumps(responses.statuses)}")
    return responses.seconds


def _cpu(kube: Kube, name: str) -> float:
    """CPU seconds of all processes in the stage's container, to 10 ms."""
    (pod,) = [each["metadata"]["name"] for each in kube.pods(name)]
    return float(kube.kubectl("exec", pod, "--container=user-container", "--", "python", "-S", "-c", _CPU))
