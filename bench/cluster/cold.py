"""From zero pods to the first answered event: each stage as shipped, next to other ways to start the same code."""

from __future__ import annotations

import copy
import json
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

import httpx

from bench.cluster.events import CALLS, Call
from tests.cluster.kube import ClusterError
from tests.cluster.stack import is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.kube import Kube
    from tests.cluster.stack import Stack

_ZERO_SECONDS: Final = 240.0
_ANSWER_SECONDS: Final = 60.0
_BEGAN: Final = "began"
_LISTENING: Final = "Application startup complete"
_STARTED: Final = """\
import time
ticks = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])
up = float(open("/proc/uptime").read().split()[0])
print(time.time() - up + ticks / 100)
"""
_EMPTY: Final = """\
import socket
s = socket.create_server(("0.0.0.0", 8080), backlog=64)
while True:
    c, _ = s.accept()
    c.recv(65536)
    c.sendall(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
    c.close()
"""
"""A server that costs next to nothing to start, but for the interpreter and the image around it."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to start a stage's code. It changes the container of the Service as shipped."""

    name: str
    change: Callable[[dict[str, Any]], None]


def _shipped(_: dict[str, Any]) -> None:
    pass


def _no_bytecode(container: dict[str, Any]) -> None:
    # Python looks for bytecode there and nowhere else.
    container["env"].append({"name": "PYTHONPYCACHEPREFIX", "value": "/dev/shm/none"})  # noqa: S108 - the pod's own


def _framework(container: dict[str, Any]) -> None:
    """As the Functions Framework starts a function by itself: gunicorn with a worker of uvicorn's."""
    container["command"] = ["functions-framework", "--asgi"]
    container.pop("args", None)


def _framework_no_bytecode(container: dict[str, Any]) -> None:
    _framework(container)
    _no_bytecode(container)


def _empty(container: dict[str, Any]) -> None:
    container["command"] = ["python", "-S", "-c", _EMPTY]
    container.pop("args", None)


def _floor(container: dict[str, Any]) -> None:
    """bench/cluster/floor, in the stage's own pod with its volumes and its account."""
    container["image"] = os.environ["FLOOR_IMAGE"]
    for own in ("command", "args"):
        container.pop(own, None)


RUNNABLE: Final = (
    Way("as shipped", _shipped),
    Way("without bytecode", _no_bytecode),
    Way("framework's default", _framework),
    Way("default, no bytecode", _framework_no_bytecode),
)
WAYS: Final = (*RUNNABLE, Way("an empty server", _empty), Way("floor", _floor))


@dataclass(slots=True)
class Starts:
    """Seconds of each start: until the answer; until the process began; until it listened; of a second event."""

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


class Cold:
    """Copies of the stages' Services, which go to zero as soon as Knative lets them."""

    def __init__(self, kube: Kube, gateway: str, key: str) -> None:
        """gateway is host:port of the cluster's own Services, key one of intake's."""
        self._kube = kube
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=f"http://{gateway}", timeout=_ANSWER_SECONDS, headers=headers)
        self._hosts: dict[str, str] = {}

    def measure(self, stages: list[str], ways: list[Way], rounds: int) -> Iterator[Starts]:
        """In turn, so that what else the machine does meets all alike."""
        found = {(stage, way.name): Starts(stage, way.name) for stage in stages for way in ways}
        names = {
            (stage, way.name): f"cold-{stage}-{number}" for stage in stages for number, way in enumerate(ways)
        }
        try:
            for stage in stages:
                for way in ways:
                    self._deploy(stage, names[stage, way.name], way)
            for each in range(rounds + 1):
                for key, starts in found.items():
                    # The first one also reads the image's layers from disk.
                    self._start(names[key], CALLS[key[0]], starts if each else Starts(*key))
        finally:
            self._kube.kubectl("delete", "ksvc", *names.values(), "--ignore-not-found", "--wait=false")
        yield from found.values()

    def _deploy(self, stage: str, name: str, way: Way) -> None:
        annotations, spec = _template(self._kube, stage, way)
        annotations |= {
            "autoscaling.knative.dev/window": "6s",
            "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
            "autoscaling.knative.dev/min-scale": "0",
            "autoscaling.knative.dev/max-scale": "1",
        }
        labels = {"networking.knative.dev/visibility": "cluster-local"}
        self._kube.apply(
            {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Service",
                "metadata": {"name": name, "labels": labels},
                "spec": {"template": {"metadata": {"annotations": annotations}, "spec": spec}},
            }
        )
        self._kube.until(_ZERO_SECONDS, name, lambda: is_ready(self._kube.get("ksvc", name)) or None)
        self._hosts[name] = f"{name}.{self._kube.namespace}.svc.cluster.local"

    def _start(self, name: str, make: Callable[[], Call], starts: Starts) -> None:
        self._kube.until(_ZERO_SECONDS, f"{name} at zero", lambda: not self._alive(name) or None)
        sent = time.time()
        self._send(name, make())
        starts.answered.append(time.time() - sent)
        again = time.perf_counter()
        self._send(name, make())
        starts.warm.append(time.perf_counter() - again)
        (pod,) = self._alive(name)
        lines = self._kube.kubectl("logs", pod, "--container=user-container", "--timestamps").splitlines()
        began = _said(lines, _BEGAN) or [
            float(
                self._kube.kubectl(
                    "exec", pod, "--container=user-container", "--", "python", "-S", "-c", _STARTED
                )
            )
        ]
        starts.began += [at - sent for at in began]
        starts.listened += [at - sent for at in _said(lines, _LISTENING)]

    def _alive(self, name: str) -> list[str]:
        pods = [pod["metadata"] for pod in self._kube.pods(name)]
        return [pod["name"] for pod in pods if "deletionTimestamp" not in pod]

    def _send(self, name: str, call: Call) -> None:
        headers = call.headers | {"Host": self._hosts[name]}
        answer = self._http.post(call.path, headers=headers, content=call.body)
        if not answer.is_success:
            raise ClusterError(f"{name} answered {answer.status_code}: {json.dumps(answer.text[:200])}")


def _said(lines: list[str], what: str) -> list[float]:
    """When a log with Kubernetes' timestamps says it, in seconds since 1970."""
    times = [line.partition(" ")[0] for line in lines if line.endswith(what) or f"{what}." in line]
    return [datetime.fromisoformat(time).timestamp() for time in times]


def restart(stack: Stack, way: Way) -> None:
    """Every stage of the deployed pipeline in a new revision that starts this way."""
    for stage in CALLS:
        annotations, spec = _template(stack.kube, stage, way)
        template = {"metadata": {"annotations": annotations}, "spec": spec}
        patch = json.dumps([{"op": "replace", "path": "/spec/template", "value": template}])
        stack.kube.kubectl("patch", "ksvc", stage, "--type=json", f"--patch={patch}")
    stack.kube.until(_ZERO_SECONDS, "the stages started anew", lambda: stack.ready() or None)


def _template(kube: Kube, stage: str, way: Way) -> tuple[dict[str, str], dict[str, Any]]:
    """Annotations and spec of a stage's template as it is deployed, its container changed."""
    template = copy.deepcopy(kube.get("ksvc", stage)["spec"]["template"])
    (container,) = template["spec"]["containers"]
    way.change(container)
    return template["metadata"]["annotations"], template["spec"]
