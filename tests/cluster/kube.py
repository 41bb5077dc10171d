"""The cluster in KUBECONFIG, through the commands that an operator has: kubectl and kn."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.5


class ClusterError(Exception):
    """A command failed, or a condition did not become true in time. The message names it and quotes the cluster."""


def as_list(*documents: dict[str, Any]) -> str:
    """The documents as one List in JSON, for the standard input of kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})


class Kube:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """The command's standard output. Raises ClusterError with the command's stderr where the command fails."""
        return run(["kubectl", "--namespace", self.namespace, *arguments], stdin)

    def kn(self, *arguments: str) -> str:
        return run(["kn", "--namespace", self.namespace, *arguments])

    def get(self, *resource: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.kubectl("get", *resource, "--output=json"))
        return document

    def items(self, *resource: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get(*resource)["items"]
        return items

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", stdin=as_list(*documents))

    def has(self, resource: str) -> bool:
        """Whether the cluster has the resource, named like `kafkasources.sources.knative.dev`."""
        resources = run(
            ["kubectl", "api-resources", "--output=name", f"--api-group={resource.partition('.')[2]}"]
        )
        return resource in resources.split()

    def pods(self, service: str) -> list[dict[str, Any]]:
        """The pods of a Knative Service, including pods that terminate."""
        return self.items("pods", f"--selector=serving.knative.dev/service={service}")

    def until(self, seconds: float, condition: str, look: Callable[[], T | None]) -> T:
        """Polls look until it returns a result that is not None. Raises ClusterError with the state of the pods after
        that many seconds."""
        deadline = time.monotonic() + seconds
        while (result := look()) is None:
            if time.monotonic() > deadline:
                state = self.kubectl("get", "pods,ksvc,jobs", "--output=wide")
                raise ClusterError(f"{condition}: not in {seconds:g} s\n{state}")
            time.sleep(_POLL_SECONDS)
        return result


def run(command: list[str], stdin: str | None = None) -> str:
    try:
        process = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not on the PATH") from None
    if process.returncode:
        raise ClusterError(f"{' '.join(command)}: {process.stderr.strip()}")
    return process.stdout
