"""`kn-rollout` as a process, against an API server in memory behind HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kubeapi import serve_cluster
from support.rollout_shop import Shop

AS_INSTALLED = "import sys; sys.modules['kubernetes_validate'] = None"
"""Only developers have this package. Kubernetes' client imports it where it is there, which takes 2 s of CPU time."""


class Terminal:
    def __init__(self, shop: Shop, kubeconfig: Path) -> None:
        self.shop = shop
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", f"{AS_INSTALLED}; from knrollout.cli.app import main; main()", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def succeed(self, *arguments: str) -> str:
        """The command succeeds, then the controller runs to rest. Returns the output."""
        result = self.run(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        self.shop.run_to_rest()
        return result.stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    shop = Shop()
    with serve_cluster(shop.cluster, tmp_path) as kubeconfig:
        yield Terminal(shop, kubeconfig)


def test_list_shows_the_state_of_every_rollout(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    line = terminal.succeed("list").splitlines()[1].split()
    assert line[:3] == ["track", "track", "Paused"]
    assert canary in line


def test_get_shows_revisions_with_their_shares_and_runs_and_fits_a_hundred_columns(
    terminal: Terminal,
) -> None:
    canary = terminal.shop.release_to_analysis()
    output = terminal.succeed("get", "track")
    assert f"{canary}  canary  10 %  ready  tag canary" in output
    assert f"{terminal.shop.stable}  stable  90 %" in output
    assert "AnalysisRun track-uid-roll-1-step2-1  not started" in output
    assert max(map(len, output.splitlines())) <= 100


def test_get_as_json_is_the_resource_itself(terminal: Terminal) -> None:
    document = json.loads(terminal.succeed("get", "track", "-o", "json"))
    assert (document["kind"], document["status"]["phase"]) == ("KnativeRollout", "Healthy")


def test_promote_passes_the_current_step_and_twice_is_not_two_steps(terminal: Terminal) -> None:
    terminal.shop.release()
    first = terminal.run("promote", "track")
    second = terminal.run("promote", "track")
    assert (first.returncode, second.returncode) == (0, 0)
    assert terminal.shop.run_to_rest()["currentStepIndex"] == 2


def test_promote_in_full_ends_the_release(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    terminal.succeed("promote", "track", "--full")
    assert terminal.shop.cluster.shares() == {canary: 100}


def test_pause_holds_and_promote_resumes_without_passing_a_step(terminal: Terminal) -> None:
    terminal.shop.release()
    terminal.succeed("pause", "track")
    terminal.shop.wait(300)
    assert terminal.shop.cluster.status()["reason"] == "UserPaused"
    before = terminal.shop.cluster.status()["currentStepIndex"]
    terminal.succeed("promote", "track")
    assert terminal.shop.cluster.status()["currentStepIndex"] == before + 1, "the pause was over by time"


def test_a_pause_where_no_release_is_in_progress_is_refused(terminal: Terminal) -> None:
    result = terminal.run("pause", "track")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith("serves all traffic: there is no release to pause\n")
    assert "paused" not in terminal.shop.rollout["spec"]


def test_a_pause_at_rest_is_shown_and_promote_ends_it(terminal: Terminal) -> None:
    terminal.shop.change(paused=True)
    assert "Healthy, next paused" in terminal.succeed("list")
    assert "paused by hand: promote lets the next release go on" in terminal.succeed("status", "track")
    assert terminal.run("pause", "track").returncode == 1
    assert "not paused any more" in terminal.succeed("promote", "track")
    assert "paused" not in terminal.succeed("get", "track")
    terminal.shop.release()
    assert terminal.shop.cluster.status()["reason"] == "CanaryPauseStep"


def test_status_does_not_report_the_time_before_an_undo(terminal: Terminal) -> None:
    terminal.shop.release_and_promote()
    assert terminal.run("undo", "track").returncode == 0
    waiting = f"the controller has not taken up yet: undo to {terminal.shop.stable}"
    result = terminal.run("status", "track", "--no-watch")
    assert (result.returncode, result.stdout) == (4, f"Progressing: {waiting}\n")
    assert "Progressing" in terminal.run("list").stdout
    assert waiting in terminal.run("get", "track").stdout
    terminal.shop.run_to_rest()
    assert waiting not in terminal.run("status", "track", "--no-watch").stdout


def test_abort_then_retry_then_abort(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    terminal.succeed("abort", "track")
    assert terminal.shop.cluster.shares() == {terminal.shop.stable: 100}
    assert "aborted already" in terminal.succeed("abort", "track")
    terminal.succeed("retry", "track")
    assert terminal.shop.cluster.shares()[canary] == 10
    terminal.succeed("abort", "track")
    assert terminal.shop.cluster.shares() == {terminal.shop.stable: 100}


def test_retry_measures_again_where_an_analysis_has_no_result(terminal: Terminal) -> None:
    terminal.shop.release_to_analysis()
    terminal.shop.end_current_run("Error")
    terminal.succeed("retry", "track")
    assert terminal.shop.end_current_run("Successful")["currentStepIndex"] == 4


def test_undo_goes_back_to_the_stable_revision_before(terminal: Terminal) -> None:
    terminal.shop.change(rollbackWindow={"revisions": 1})
    terminal.shop.release_and_promote()
    terminal.succeed("undo", "track")
    assert terminal.shop.cluster.shares() == {terminal.shop.stable: 100}


def test_undo_to_a_revision_that_does_not_exist_is_refused(terminal: Terminal) -> None:
    result = terminal.run("undo", "track", "--to-revision", "track-09999")
    assert (result.returncode, result.stderr) == (1, "kn-rollout: there is no revision track-09999\n")


def test_promote_writes_over_a_manual_edit_once(terminal: Terminal) -> None:
    canary = terminal.shop.release()
    terminal.shop.cluster.edit_traffic([{"revisionName": terminal.shop.stable, "percent": 100}])
    terminal.shop.run_to_rest()
    assert "written over" in terminal.succeed("promote", "track")
    assert terminal.shop.cluster.shares()[canary] == 10


def test_status_exits_with_0_for_a_healthy_rollout_and_1_for_an_aborted_one(terminal: Terminal) -> None:
    assert terminal.run("status", "track").returncode == 0
    terminal.shop.release_to_analysis()
    terminal.shop.end_current_run("Failed")
    result = terminal.run("status", "track")
    assert result.returncode == 1
    assert result.stdout.startswith("Degraded: track-uid-roll-1-step2-1")


def test_status_exits_with_its_own_code_after_the_timeout(terminal: Terminal) -> None:
    terminal.shop.release()
    result = terminal.run("status", "track", "--timeout", "10ms")
    assert result.returncode == 4
    assert "kn rollout get track" in result.stderr


def test_status_without_watching_has_an_exit_code_for_a_pause(terminal: Terminal) -> None:
    terminal.shop.release()
    assert terminal.run("status", "track", "--no-watch").returncode == 5


def test_list_has_a_dash_for_the_canary_at_rest(terminal: Terminal) -> None:
    assert terminal.succeed("list").splitlines()[1].split()[5:7] == ["%", "-"]


def test_an_empty_list_says_where_else_to_look(terminal: Terminal) -> None:
    terminal.shop.cluster.remove("rollout", "track")
    result = terminal.run("list", "-n", "shop")
    assert (result.returncode, result.stdout) == (0, "")
    assert "kn rollout list -A" in result.stderr


def test_promote_and_get_count_steps_alike(terminal: Terminal) -> None:
    terminal.shop.release()
    assert "2/5" in terminal.run("get", "track").stdout
    assert "passes step 2/5" in terminal.run("promote", "track").stdout


def test_get_says_since_when_the_canary_has_its_share(terminal: Terminal) -> None:
    terminal.shop.release()
    lines = terminal.run("get", "track").stdout.splitlines()
    (weight,) = [line for line in lines if line.startswith("Weight")]
    assert weight.split()[1:5] == ["10", "%", "since", "2026-11-24T08:00:00Z"]
    assert "first share 2026-11-24T08:00:00Z" in weight
    assert len(weight) <= 100


def test_get_says_in_one_line_that_the_share_is_withheld(terminal: Terminal) -> None:
    terminal.shop.release_to_analysis()
    terminal.shop.end_current_run("Inconclusive", value='{"harm": true, "sentence": "3 of 40 rejected"}')
    output = terminal.run("get", "track").stdout
    (weight,) = [line for line in output.splitlines() if line.startswith("Weight")]
    assert "0 of 10 %, withheld since 2026-11-24T08:05:00Z" in weight
    assert "first share 2026-11-24T08:00:00Z" in weight
    assert "rejected  0 of 1 good  3 of 40 rejected" in output


def test_status_does_not_report_the_previous_release_before_the_controller_has_seen_the_new_one(
    terminal: Terminal,
) -> None:
    canary = terminal.shop.cluster.deploy()
    result = terminal.run("status", "track", "--no-watch")
    assert f"the controller has not seen {canary}" in result.stdout


def test_history_shows_the_outcome_of_each_attempt(terminal: Terminal) -> None:
    terminal.shop.release_to_analysis()
    terminal.shop.end_current_run("Failed")
    entries = json.loads(terminal.succeed("history", "track", "-o", "json"))
    assert [entry["outcome"] for entry in entries] == ["Aborted", "Adopted"]


def test_an_unknown_rollout_is_refused_with_what_to_do_next(terminal: Terminal) -> None:
    result = terminal.run("get", "trakc")
    assert result.returncode == 1
    assert "kn rollout list -A" in result.stderr


def test_a_cluster_that_does_not_answer_has_its_own_exit_code(terminal: Terminal, tmp_path: Path) -> None:
    config = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(config.replace("127.0.0.1", "127.0.0.1:1/gone?"))
    result = terminal.run("list")
    assert result.returncode == 3
    assert result.stderr.startswith("kn-rollout: the API server")


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
    result = terminal.run("lint", "-", stdin=text)
    assert result.returncode == 1
    assert "spec.strategy.canary.steps.1.setCanaryScale: is not supported" in result.stdout


ROLLOUT = """
apiVersion: orderflow.dev/v1alpha1
kind: KnativeRollout
metadata: {name: track}
spec:
  workloadRef: {name: track}
  strategy:
    canary:
      steps: [{setWeight: 10}, {analysis: {templates: [{templateName: orders}], args: [{name: revsion, value: x}]}}]
"""
TEMPLATE = """
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: orders}
spec: {args: [{name: revision}], metrics: [{name: rejected}]}
"""


def test_lint_reads_templates_from_a_folder_and_names_wrong_and_missing_arguments(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "orders.yaml").write_text(TEMPLATE)
    (tmp_path / "rollout.yaml").write_text(ROLLOUT)
    result = terminal.run("lint", str(tmp_path / "rollout.yaml"), "--templates", str(tmp_path / "analysis"))
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "track: no template of orders has an argument revsion",
        "track: orders: the argument revision has no value and no default",
    ]


def test_lint_of_a_file_that_cannot_be_read_is_a_sentence(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    result = terminal.run("lint", str(tmp_path / "binary"), str(tmp_path / "missing"), str(tmp_path))
    assert (result.returncode, result.stderr) == (1, "")
    assert [line.partition(": ")[2] for line in result.stdout.splitlines()] == [
        "cannot be read: it is not UTF-8 text",
        "cannot be read: No such file or directory",
        "cannot be read: Is a directory",
    ]
