"""Ways to start a stage's code on a cluster, and copies of the stages' Services that start in these ways."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.cluster.events import CALLS
from tests.cluster.stack import is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.cluster.kube import Kube
    from tests.cluster.stack import Stack

_READY_SECONDS: Final = 240.0
_EMPTY: Final = """\
import socket
s = socket.create_server(("0.0.0.0", 8080), backlog=64)
while True:
    c, _ = s.accept()
    c.recv(65536)
    c.sendall(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
    c.close()
"""
"""The smallest server: its start costs little more than the interpreter and the image."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to start a stage's code. change() edits the container of the shipped Service."""

    name: str
    change: Callable[[dict[str, Any]], None]


def _shipped(_: dict[str, Any]) -> None:
    """Changes nothing."""


def _no_bytecode(container: dict[str, Any]) -> None:
    # Python looks for bytecode only there.
    container["env"].append({"name": "PYTHONPYCACHEPREFIX", "value": "/dev/shm/none"})  # noqa: S108 - the pod's own


def _framework(container: dict[str, Any]) -> None:
    """The Functions Framework's own server: gunicorn with a uvicorn worker."""
    container["command"] = ["functions-framework", "--asgi"]
    container.pop("args", None)


def _framework_no_bytecode(container: dict[str, Any]) -> None:
    _framework(container)
    _no_bytecode(container)


def _empty(container: dict[str, Any]) -> None:
    container["command"] = ["python", "-S", "-c", _EMPTY]
    container.pop("args", None)


def _floor(container: dict[str, Any]) -> None:
    """The image of bench/cluster/floor in the stage's own pod, with its volumes and its service account."""
    container["image"] = os.environ["FLOOR_IMAGE"]
    for field in ("command", "args"):
        container.pop(field, None)


RUNNABLE: Final = (
    Way("as shipped", _shipped),
    Way("without bytecode", _no_bytecode),
    Way("framework's default", _framework),
    Way("default, no bytecode", _framework_no_bytecode),
)
WAYS: Final = (*RUNNABLE, Way("an empty server", _empty), Way("floor", _floor))


def deploy(kube: Kube, stage: str, way: Way, name: str, scale: Mapping[str, str]) -> str:
    """Deploys a copy of a stage's Service under another name and with these scale annotations; returns its host."""
    annotations, spec = _template(kube, stage, way)
    labels = {"networking.knative.dev/visibility": "cluster-local"}
    kube.apply(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            "spec": {"template": {"metadata": {"annotations": annotations | scale}, "spec": spec}},
        }
    )
    kube.until(_READY_SECONDS, name, lambda: is_ready(kube.get("ksvc", name)) or None)
    return f"{name}.{kube.namespace}.svc.cluster.local"


def restart(stack: Stack, way: Way) -> None:
    """Gives every stage of the deployed pipeline a new revision that starts in this way."""
    for stage in CALLS:
        annotations, spec = _template(stack.kube, stage, way)
        template = {"metadata": {"annotations": annotations}, "spec": spec}
        patch = json.dumps([{"op": "replace", "path": "/spec/template", "value": template}])
        stack.kube.kubectl("patch", "ksvc", stage, "--type=json", f"--patch={patch}")
    stack.kube.until(_READY_SECONDS, "the restarted stages", lambda: stack.ready() or None)


def _template(kube: Kube, stage: str, way: Way) -> tuple[dict[str, str], dict[str, Any]]:
    """Annotations and spec of the deployed stage's template, with the changed container."""
    template = copy.deepcopy(kube.get("ksvc", stage)["spec"]["template"])
    (container,) = template["spec"]["containers"]
    way.change(container)
    return template["metadata"]["annotations"], template["spec"]
