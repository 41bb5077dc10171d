"""A shop with one Service under a rollout, and a controller that is asked round by round."""

from collections.abc import Callable
from typing import Any

from knrollout.api import names
from knrollout.api.requests import of_attempt, passing
from knrollout.cluster.errors import ConflictError
from knrollout.controller.reconcile import decide, reconcile, writes
from support.knative import NAMESPACE, ROLLOUT, SERVICE, FakeCluster

ORDERS = {"templates": [{"templateName": "orders"}], "args": [{"name": "revision", "value": "x"}]}
STEPS: list[dict[str, Any]] = [
    {"setWeight": 10},
    {"pause": {"duration": "5m"}},
    {"analysis": ORDERS},
    {"setWeight": 50},
    {"pause": {}},
]
TEMPLATE = {"metrics": [{"name": "rejected", "provider": {"web": {}}}], "args": [{"name": "revision"}]}
MANY_ROUNDS = 50


class Shop:
    """stable is the revision that serves when the rollout is made."""

    def __init__(self, cluster: FakeCluster | None = None, **canary: Any) -> None:
        self.cluster = cluster or FakeCluster()
        self.knative_works = True
        spec: dict[str, Any] = {"traffic": [{"latestRevision": True, "percent": 100}]}
        self.cluster.add("service", {"metadata": {"name": SERVICE}, "spec": spec, "status": {}})
        self.stable = self.cluster.deploy()
        self.cluster.add("template", {"metadata": {"name": "orders"}, "spec": TEMPLATE})
        strategy = {"canary": {"steps": STEPS, **canary}}
        self.rollout = self.cluster.add(
            "rollout",
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "metadata": {"name": ROLLOUT},
                "spec": {"workloadRef": {"name": SERVICE}, "strategy": strategy},
            },
        )
        self.led()

    def round(self) -> bool:
        """One round of the controller, then Knative's; whether anything was written."""
        before = self._versions()
        try:
            reconcile(self.cluster, NAMESPACE, ROLLOUT, self.cluster.now)
        except ConflictError:
            return True
        written = self.cluster.objects["service", SERVICE]["metadata"]["resourceVersion"] not in before
        if written and self.knative_works:
            self.cluster.settle()
        return before != self._versions()

    def decided(self) -> list[Callable[[], None]]:
        """A controller reads and decides; its writes, the status first, are the test's to do."""
        document = self.cluster.rollout(NAMESPACE, ROLLOUT)
        assert document is not None
        return writes(self.cluster, document, decide(self.cluster, document, self.cluster.now))

    def led(self) -> dict[str, Any]:
        """Rounds until nothing is left to do; the status then."""
        for _ in range(MANY_ROUNDS):
            if not self.round():
                return self.cluster.status()
        raise AssertionError("the controller never comes to rest")

    def release(self, *, ready: bool = True) -> str:
        revision = self.cluster.deploy(ready=ready)
        self.led()
        return revision

    def promote(self) -> dict[str, Any]:
        status = self.cluster.status()
        token = passing(status["canaryRevision"], status["attempt"], status["currentStepIndex"])
        return self.asked(**{names.PROMOTE_ANNOTATION: token})

    def promote_in_full(self) -> dict[str, Any]:
        status = self.cluster.status()
        token = passing(status["canaryRevision"], status["attempt"], "full")
        return self.asked(**{names.PROMOTE_ANNOTATION: token})

    def abort(self) -> dict[str, Any]:
        status = self.cluster.status()
        token = of_attempt(status["canaryRevision"], status["attempt"])
        return self.asked(**{names.ABORT_ANNOTATION: token})

    def retry(self, revision: str) -> dict[str, Any]:
        token = of_attempt(revision, self.cluster.status()["attempt"])
        return self.asked(**{names.RETRY_ANNOTATION: token})

    def undo(self, revision: str) -> dict[str, Any]:
        latest = self.cluster.objects["service", SERVICE]["status"]["latestCreatedRevisionName"]
        return self.asked(**{names.UNDO_ANNOTATION: f"{revision}/{latest}"})

    def asked(self, **annotations: str) -> dict[str, Any]:
        self.cluster.ask(NAMESPACE, ROLLOUT, annotations, None)
        return self.led()

    def change(self, **spec: Any) -> dict[str, Any]:
        """The rollout's spec is changed."""
        self.rollout["spec"].update(spec)
        self.rollout["metadata"]["generation"] += 1
        self.cluster.ask(NAMESPACE, ROLLOUT, {}, None)
        return self.led()

    def wait(self, seconds: float) -> dict[str, Any]:
        self.cluster.turn(seconds)
        return self.led()

    def measure(self, phase: str, measured: int = 1) -> dict[str, Any]:
        """The one run that is under way ends."""
        (run,) = self.cluster.running()
        self.cluster.end_run(run, phase, measured)
        return self.led()

    def at_analysis(self) -> str:
        """A release that has passed weight and pause."""
        revision = self.release()
        self.wait(300)
        return revision

    def released(self) -> str:
        """A release that was promoted step by step."""
        revision = self.at_analysis()
        self.measure("Successful")
        self.promote()
        return revision

    def _versions(self) -> set[str]:
        return {document["metadata"]["resourceVersion"] for document in self.cluster.objects.values()}
