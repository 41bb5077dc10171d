"""`kn-rollout` as a process of its own, against an API server in memory behind HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kubeapi import serve_cluster
from support.rollout_shop import Shop


class Terminal:
    def __init__(self, shop: Shop, kubeconfig: Path) -> None:
        self.shop = shop
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from knrollout.cli.app import main; main()", *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def does(self, *words: str) -> str:
        """The words are understood; the controller then comes to rest."""
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        self.shop.run_to_rest()
        return done.stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    shop = Shop()
    with serve_cluster(shop.cluster, tmp_path) as kubeconfig:
        yield Terminal(shop, kubeconfig)


def test_list_says_where_every_rollout_stands(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    line = terminal.does("list").splitlines()[1].split()
    assert line[:3] == ["track", "track", "Paused"]
    assert canary in line


def test_get_shows_revisions_with_their_shares_and_runs_and_fits_a_hundred_columns(
    terminal: Terminal,
) -> None:
    canary = terminal.shop.release_to_analysis()
    told = terminal.does("get", "track")
    assert f"{canary}  canary  10 %  ready  tag canary" in told
    assert f"{terminal.shop.stable}  stable  90 %" in told
    assert "AnalysisRun track-uid-roll-1-step2-1  not started" in told
    assert max(map(len, told.splitlines())) <= 100


def test_get_as_json_is_the_resource_itself(terminal: Terminal) -> None:
    document = json.loads(terminal.does("get", "track", "-o", "json"))
    assert (document["kind"], document["status"]["phase"]) == ("KnativeRollout", "Healthy")


def test_promote_passes_the_step_that_is_waited_at_and_twice_is_not_two_steps(terminal: Terminal) -> None:
    terminal.shop.release()
    first = terminal.run("promote", "track")
    second = terminal.run("promote", "track")
    assert (first.returncode, second.returncode) == (0, 0)
    assert terminal.shop.run_to_rest()["currentStepIndex"] == 2


def test_promote_in_full_ends_the_release(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    terminal.does("promote", "track", "--full")
    assert terminal.shop.cluster.shares() == {canary: 100}


def test_pause_holds_and_promote_resumes_without_passing_a_step(terminal: Terminal) -> None:
    terminal.does("pause", "track")
    terminal.shop.release_to_analysis()
    assert terminal.shop.cluster.status()["reason"] == "UserPaused"
    before = terminal.shop.cluster.status()["currentStepIndex"]
    terminal.does("promote", "track")
    assert terminal.shop.cluster.status()["currentStepIndex"] == before + 1, "the pause was over by time"


def test_abort_then_retry_then_abort(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    terminal.does("abort", "track")
    assert terminal.shop.cluster.shares() == {terminal.shop.stable: 100}
    assert "aborted already" in terminal.does("abort", "track")
    terminal.does("retry", "track")
    assert terminal.shop.cluster.shares()[canary] == 10
    terminal.does("abort", "track")
    assert terminal.shop.cluster.shares() == {terminal.shop.stable: 100}


def test_retry_measures_again_where_an_analysis_said_nothing(terminal: Terminal) -> None:
    terminal.shop.release_to_analysis()
    terminal.shop.end_current_run("Error")
    terminal.does("retry", "track")
    assert terminal.shop.end_current_run("Successful")["currentStepIndex"] == 4


def test_undo_goes_back_to_the_stable_revision_before(terminal: Terminal) -> None:
    terminal.shop.change(rollbackWindow={"revisions": 1})
    terminal.shop.release_and_promote()
    terminal.does("undo", "track")
    assert terminal.shop.cluster.shares() == {terminal.shop.stable: 100}


def test_undo_to_a_revision_that_is_not_there_is_refused(terminal: Terminal) -> None:
    done = terminal.run("undo", "track", "--to-revision", "track-09999")
    assert (done.returncode, done.stderr) == (1, "kn-rollout: there is no revision track-09999\n")


def test_promote_writes_over_a_hand_edit_once(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    terminal.shop.cluster.edit_traffic([{"revisionName": terminal.shop.stable, "percent": 100}])
    terminal.shop.run_to_rest()
    assert "written over" in terminal.does("promote", "track")
    assert terminal.shop.cluster.shares()[canary] == 10


def test_status_is_nought_for_a_healthy_rollout_and_one_for_an_aborted_one(terminal: Terminal) -> None:
    assert terminal.run("status", "track").returncode == 0
    terminal.shop.release_to_analysis()
    terminal.shop.end_current_run("Failed")
    done = terminal.run("status", "track")
    assert done.returncode == 1
    assert done.stdout.startswith("Degraded: track-uid-roll-1-step2-1")


def test_status_gives_up_after_its_time_with_a_code_of_its_own(terminal: Terminal) -> None:
    terminal.shop.release()
    done = terminal.run("status", "track", "--timeout", "10ms")
    assert done.returncode == 4
    assert "kn rollout get track" in done.stderr


def test_status_does_not_take_the_release_before_for_the_one_that_the_controller_has_not_seen(
    terminal: Terminal,
) -> None:
    canary = terminal.shop.cluster.deploy()
    done = terminal.run("status", "track", "--no-watch")
    assert f"the controller has not seen {canary}" in done.stdout


def test_history_tells_what_became_of_each_attempt(terminal: Terminal) -> None:
    terminal.shop.release_to_analysis()
    terminal.shop.end_current_run("Failed")
    entries = json.loads(terminal.does("history", "track", "-o", "json"))
    assert [entry["outcome"] for entry in entries] == ["Aborted", "Adopted"]


def test_an_unknown_rollout_is_refused_with_what_to_do_next(terminal: Terminal) -> None:
    done = terminal.run("get", "trakc")
    assert done.returncode == 1
    assert "kn rollout list -A" in done.stderr


def test_a_cluster_that_does_not_answer_is_a_code_of_its_own(terminal: Terminal, tmp_path: Path) -> None:
    config = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(config.replace("127.0.0.1", "127.0.0.1:1/gone?"))
    done = terminal.run("list")
    assert done.returncode == 3
    assert done.stderr.startswith("kn-rollout: the API server")


def test_lint_names_what_a_knative_service_cannot_do(terminal: Terminal) -> None:
    text = """
apiVersion: orderflow.dev/v1alpha1
kind: KnativeRollout
metadata: {name: track}
spec:
  workloadRef: {name: track}
  strategy:
    canary:
      steps: [{setWeight: 10}, {setCanaryScale: {weight: 5}}]
"""
    done = terminal.run("lint", "-", stdin=text)
    assert done.returncode == 1
    assert "spec.strategy.canary.steps.1.setCanaryScale: is not supported" in done.stdout
