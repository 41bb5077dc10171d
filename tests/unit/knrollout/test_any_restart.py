"""Invariants while controllers are killed or suspended, and people, Knative and Argo act in between."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from support.fake_cluster import NAMESPACE, ROLLOUT, SERVICE, FakeCluster
from support.rollout_shop import Shop

from knrollout.api import names
from knrollout.cluster.errors import ConflictError
from knrollout.controller.reconcile import read_and_plan, writes
from knrollout.decide.actions import SetTraffic
from knrollout.decide.plan import Plan

BACKGROUND = {"templates": [{"templateName": "orders"}], "args": [{"name": "revision", "value": "x"}]}
STEPS = [{"setWeight": 10}, {"analysis": BACKGROUND}, {"setWeight": 50}, {"pause": {"duration": 30}}]
RARELY = st.integers(0, 7).map(lambda number: number == 7)
RUN_ENDS = st.sampled_from(["Successful", "Successful", "Failed", "Error", "Inconclusive", "Running"])
Writes = list[Callable[[], None]]


class Controllers(RuleBasedStateMachine):
    """Any number of controllers: each reads and decides, and may write only a part of its plan, or write late."""

    suspended = Bundle("suspended")

    @initialize(background=st.booleans(), window=st.booleans())
    def a_shop(self, background: bool, window: bool) -> None:
        self.cluster = FakeCluster()
        canary: dict[str, Any] = {"steps": STEPS} | ({"analysis": BACKGROUND} if background else {})
        self.background = background
        self.shop = Shop(self.cluster, **canary)
        if window:
            self.shop.change(rollbackWindow={"revisions": 3})
        self.stable = self.shop.stable
        self.requests: set[str] = set()
        self.successful_runs: set[str] = set()
        self.measured_runs: set[str] = set()
        self.cluster.deploy()

    # Controllers.

    @rule(target=suspended, count=st.integers(0, 3))
    def a_controller_decides_and_stops_after_some_writes(self, count: int) -> Any:
        writes = self._plan()[0]
        return multiple(self._write(writes[:count], writes[count:]))

    @rule(writes=consumes(suspended), count=st.integers(1, 3))
    def a_suspended_controller_resumes(self, writes: Writes, count: int) -> None:
        self._write(writes[:count], [])

    @rule(rounds=st.integers(1, 6))
    def a_controller_runs_undisturbed(self, rounds: int) -> None:
        self._run_rounds(rounds)

    def _run_rounds(self, rounds: int) -> None:
        for _ in range(rounds):
            self._write(self._plan()[0], [])
            self.cluster.settle()

    def _plan(self) -> tuple[Writes, Plan]:
        document = self.cluster.rollout(NAMESPACE, ROLLOUT)
        assert document is not None
        plan = read_and_plan(self.cluster, document, self.cluster.now)
        self._check_targets(plan)
        self._check_promotion(document, plan)
        return writes(self.cluster, document, plan), plan

    def _write(self, now: Writes, later: Writes) -> Writes:
        for write in now:
            try:
                write()
            except ConflictError:
                return []
        return later

    def _check_targets(self, plan: Plan) -> None:
        """No plan sends traffic to a deleted revision, and the percentages add up to 100."""
        existing = {document["metadata"]["name"] for document in self.cluster.revisions(NAMESPACE, SERVICE)}
        for action in plan.actions:
            if isinstance(action, SetTraffic):
                own = [t for t in action.targets if t.tag != "demo" and (t.percent or t.tag)]
                assert {t.revision for t in own} <= existing
                assert sum(t.percent for t in action.targets) == 100

    def _check_promotion(self, document: Any, plan: Plan) -> None:
        """A revision becomes stable by successful runs, by a request, or because it was stable before."""
        before = document.get("status", {}).get("stableRevision")
        after = plan.status
        if before is None or after.stable_revision == before or after.history[-1].outcome != "Promoted":
            return
        last = after.history[-1]
        token = f"{last.revision}/{last.attempt}"
        if last.reason == "PromotedInFull":
            was_stable = any(
                e.revision == last.revision and e.outcome in {"Adopted", "Promoted"}
                for e in after.history[:-1]
            )
            assert f"{token}/full" in self.requests or was_stable
            return
        step = f"-{last.attempt}-step1-"
        assert f"{token}/1" in self.requests or any(step in run for run in self.successful_runs)
        background = f"-{last.attempt}-background-"
        if self.background and f"{token}/4" not in self.requests:
            assert any(background in run for run in self.measured_runs)

    # Knative, Argo, time.

    @rule()
    def knative_settles(self) -> None:
        self.cluster.settle()

    @rule(rare=RARELY, ready=st.booleans())
    def a_new_revision(self, rare: bool, ready: bool) -> None:
        if rare or self._stable() == self.cluster.status().get("canaryRevision"):
            self.cluster.deploy(ready=ready)

    @rule(rare=RARELY, data=st.data())
    def a_revision_changes_its_health(self, rare: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self._revisions()))
        self.cluster.make_ready(name, ready=not rare)

    @precondition(lambda self: self.cluster.status().get("canaryRevision") != self._stable())
    @rule(rare=RARELY)
    def the_canary_is_deleted(self, rare: bool) -> None:
        if rare:
            self.cluster.remove("revision", self.cluster.status()["canaryRevision"])

    @precondition(lambda self: self.cluster.unfinished_runs())
    @rule(phase=RUN_ENDS, measured=st.integers(0, 2), data=st.data())
    def a_run_ends(self, phase: str, measured: int, data: st.DataObject) -> None:
        self._end(data.draw(st.sampled_from(sorted(self.cluster.unfinished_runs()))), phase, measured)

    @rule(measured=st.sampled_from([1, 1, 1, 0]), times=st.integers(1, 8))
    def all_runs_succeed(self, measured: int, times: int) -> None:
        for _ in range(times):
            for name in sorted(self.cluster.unfinished_runs()):
                self._end(name, "Running" if "background" in name else "Successful", measured)
            self.cluster.advance_clock(30)
            self._run_rounds(2)

    def _end(self, name: str, phase: str, measured: int) -> None:
        terminated = self.cluster.objects["run", name]["spec"].get("terminate", False)
        self.cluster.end_run(name, phase, measured)
        if measured and not terminated and phase in {"Successful", "Running"}:
            self.measured_runs.add(name)
            self.successful_runs |= {name} if phase == "Successful" else set()

    @rule(seconds=st.sampled_from([1, 30, 300, 700]))
    def time_passes(self, seconds: int) -> None:
        self.cluster.advance_clock(seconds)

    # People.

    @rule(rare=RARELY, what=st.sampled_from(["promote", "full", "abort", "retry", "undo"]), data=st.data())
    def a_person_asks(self, rare: bool, what: str, data: st.DataObject) -> None:
        if not rare:
            return
        status, service = self.cluster.status(), self.cluster.objects["service", SERVICE]
        attempt = f"{status['canaryRevision']}/{status['attempt']}"
        revision = data.draw(st.sampled_from(self._revisions()))
        annotation, value = {
            "promote": (names.PROMOTE_ANNOTATION, f"{attempt}/{status['currentStepIndex']}"),
            "full": (names.PROMOTE_ANNOTATION, f"{attempt}/full"),
            "abort": (names.ABORT_ANNOTATION, attempt),
            "retry": (names.RETRY_ANNOTATION, f"{revision}/{status['attempt']}"),
            "undo": (names.UNDO_ANNOTATION, f"{revision}/{service['status']['latestCreatedRevisionName']}"),
        }[what]
        self.requests.add(value)
        self.cluster.patch_rollout(NAMESPACE, ROLLOUT, {annotation: value}, None)

    # What holds.

    @invariant()
    def shares_add_up_to_100(self) -> None:
        if hasattr(self, "cluster"):
            assert sum(self.cluster.shares().values()) == 100

    @invariant()
    def no_write_of_a_controller_counts_as_a_manual_edit(self) -> None:
        """However late it is written."""
        if hasattr(self, "cluster"):
            assert self.cluster.status()["reason"] != "TrafficEdited"

    def teardown(self) -> None:
        """In the end one undisturbed controller comes to rest, with the traffic that the status names."""
        if not hasattr(self, "cluster"):
            return
        self.cluster.settle()
        status = self.shop.run_to_rest()
        if status["reason"] in {"StableMissing", "RouteNotReady"}:
            return
        split = status["applied"]
        if status["phase"] == "Degraded" and status["reason"] != "ProgressDeadlineExceeded":
            assert status.get("aborted")
        shares = {split["stable"]: 100 - split["weight"]}
        if split.get("canary"):
            shares[split["canary"]] = split["weight"]
        assert self.cluster.shares() == {name: share for name, share in shares.items() if share}
        if status.get("aborted") or status["phase"] == "Healthy":
            assert self.cluster.shares() == {status["stableRevision"]: 100}

    def _stable(self) -> Any:
        return self.cluster.status().get("stableRevision")

    def _revisions(self) -> list[str]:
        return sorted(document["metadata"]["name"] for document in self.cluster.revisions(NAMESPACE, SERVICE))


TestControllers = Controllers.TestCase
TestControllers.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
