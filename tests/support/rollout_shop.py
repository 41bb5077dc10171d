"""A Service with a rollout in the cluster in memory, and a controller that a test runs one reconciliation at a time."""

from collections.abc import Callable
from typing import Any

from knrollout.api import names
from knrollout.api.requests import all_steps_token, attempt_token, step_token
from knrollout.cluster.errors import ConflictError
from knrollout.controller.reconcile import read_and_plan, reconcile, writes
from support.fake_cluster import NAMESPACE, ROLLOUT, SERVICE, FakeCluster

ORDERS = {"templates": [{"templateName": "orders"}], "args": [{"name": "revision", "value": "x"}]}
STEPS: list[dict[str, Any]] = [
    {"setWeight": 10},
    {"pause": {"duration": "5m"}},
    {"analysis": ORDERS},
    {"setWeight": 50},
    {"pause": {}},
]
TEMPLATE = {"metrics": [{"name": "rejected", "provider": {"web": {}}}], "args": [{"name": "revision"}]}
MAX_ROUNDS = 50


class Shop:
    """stable: the revision that serves when the rollout is created."""

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
        self.run_to_rest()

    def reconcile_once(self) -> bool:
        """The controller reconciles, then Knative settles. Returns whether anything was written."""
        before = self._versions()
        try:
            reconcile(self.cluster, NAMESPACE, ROLLOUT, self.cluster.now)
        except ConflictError:
            return True
        written = self.cluster.objects["service", SERVICE]["metadata"]["resourceVersion"] not in before
        if written and self.knative_works:
            self.cluster.settle()
        return before != self._versions()

    def planned_writes(self) -> list[Callable[[], None]]:
        """A controller reads and decides. The test calls the writes; the first one is the status."""
        document = self.cluster.rollout(NAMESPACE, ROLLOUT)
        assert document is not None
        return writes(self.cluster, document, read_and_plan(self.cluster, document, self.cluster.now))

    def run_to_rest(self) -> dict[str, Any]:
        """Reconciles until nothing is written any more. Returns the status."""
        for _ in range(MAX_ROUNDS):
            if not self.reconcile_once():
                return self.cluster.status()
        raise AssertionError("the controller never comes to rest")

    def release(self, *, ready: bool = True) -> str:
        revision = self.cluster.deploy(ready=ready)
        self.run_to_rest()
        return revision

    def promote(self) -> dict[str, Any]:
        status = self.cluster.status()
        token = step_token(status["canaryRevision"], status["attempt"], status["currentStepIndex"])
        return self.annotate(**{names.PROMOTE_ANNOTATION: token})

    def promote_in_full(self) -> dict[str, Any]:
        status = self.cluster.status()
        token = all_steps_token(status["canaryRevision"], status["attempt"])
        return self.annotate(**{names.PROMOTE_ANNOTATION: token})

    def abort(self) -> dict[str, Any]:
        status = self.cluster.status()
        token = attempt_token(status["canaryRevision"], status["attempt"])
        return self.annotate(**{names.ABORT_ANNOTATION: token})

    def retry(self, revision: str) -> dict[str, Any]:
        token = attempt_token(revision, self.cluster.status()["attempt"])
        return self.annotate(**{names.RETRY_ANNOTATION: token})

    def undo(self, revision: str) -> dict[str, Any]:
        latest = self.cluster.objects["service", SERVICE]["status"]["latestCreatedRevisionName"]
        return self.annotate(**{names.UNDO_ANNOTATION: f"{revision}/{latest}"})

    def annotate(self, **annotations: str) -> dict[str, Any]:
        self.cluster.patch_rollout(NAMESPACE, ROLLOUT, annotations, None)
        return self.run_to_rest()

    def change(self, **spec: Any) -> dict[str, Any]:
        """Changes fields of the rollout's spec."""
        self.rollout["spec"].update(spec)
        self.rollout["metadata"]["generation"] += 1
        self.cluster.patch_rollout(NAMESPACE, ROLLOUT, {}, None)
        return self.run_to_rest()

    def wait(self, seconds: float) -> dict[str, Any]:
        self.cluster.advance_clock(seconds)
        return self.run_to_rest()

    def end_current_run(
        self, phase: str, measured: int = 1, value: str = "", failed: int = 0
    ) -> dict[str, Any]:
        """Ends the only run that is not finished."""
        (run,) = self.cluster.unfinished_runs()
        self.cluster.end_run(run, phase, measured, value, failed)
        return self.run_to_rest()

    def release_to_analysis(self) -> str:
        """A release that has passed its first weight and pause and is at its analysis."""
        revision = self.release()
        self.wait(300)
        return revision

    def release_and_promote(self) -> str:
        """A release that is promoted by its steps."""
        revision = self.release_to_analysis()
        self.end_current_run("Successful")
        self.promote()
        return revision

    def _versions(self) -> set[str]:
        return {document["metadata"]["resourceVersion"] for document in self.cluster.objects.values()}
