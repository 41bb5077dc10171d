"""The cluster in KUBECONFIG, through the commands that an operator has: kubectl and kn."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.5


class ClusterError(Exception):
    """A command failed, or what was waited for did not come; the message says which, and what the cluster says."""


def as_list(*documents: dict[str, Any]) -> str:
    """As kubectl takes them on its standard input."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})


class Kube:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What it prints. given is its standard input. Raises ClusterError with what it says on stderr."""
        return run(["kubectl", "--namespace", self.namespace, *arguments], given)

    def kn(self, *arguments: str) -> str:
        return run(["kn", "--namespace", self.namespace, *arguments])

    def get(self, *what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *what, "--output=json"))
        return found

    def items(self, *what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(*what)["items"]
        return found

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", given=as_list(*documents))

    def has(self, resource: str) -> bool:
        """Does the cluster know it? resource is as `kafkasources.sources.knative.dev`."""
        known = run(
            ["kubectl", "api-resources", "--output=name", f"--api-group={resource.partition('.')[2]}"]
        )
        return resource in known.split()

    def pods(self, service: str) -> list[dict[str, Any]]:
        """Of a Knative Service, the ones that are ending included."""
        return self.items("pods", f"--selector=serving.knative.dev/service={service}")

    def until(self, seconds: float, what: str, look: Callable[[], T | None]) -> T:
        """What look returns once it is not None. Raises ClusterError, after so long, with where the pods are."""
        deadline = time.monotonic() + seconds
        while (found := look()) is None:
            if time.monotonic() > deadline:
                state = self.kubectl("get", "pods,ksvc,jobs", "--output=wide")
                raise ClusterError(f"{what}: not in {seconds:g} s\n{state}")
            time.sleep(_POLL_SECONDS)
        return found


def run(command: list[str], given: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is not on the PATH") from None
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
