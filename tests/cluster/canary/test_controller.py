"""The controller against a real API server, Knative and Argo's analysis controller.

The controller runs as a process of this machine and releases a Service of a few lines. The tests use `kn rollout`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from knrollout.api import names
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import ROOT
from orderflow_sandbox.servers.child import Child, Step
from tests.cluster.kube import Kube, run

SERVICE = "hello"
SECONDS = 240.0
SERVER = """
import http.server, os, sys
if os.environ.get("CRASH"):
    sys.exit("this revision does not start")
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Hello).serve_forever()
"""
STEPS: list[dict[str, Any]] = [
    {"setWeight": 20},
    {"analysis": {"templates": [{"templateName": "verdict"}]}},
    {"setWeight": 50},
    {"pause": {}},
]


class Verdicts:
    """The verdict that the analysis reads, in the form of query's API."""

    def __init__(self, host: str) -> None:
        self.verdict = "fine"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"verdict": outer.verdict}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Trial:
    """One Service under a rollout, and a controller that can be killed."""

    def __init__(self, kube: Kube, image: str, verdicts: Verdicts, log: Path) -> None:
        self.kube = kube
        self.verdicts = verdicts
        self._image = image
        self._log = log
        self._controllers = 0
        self._child: Child | None = None

    def start_controller(self) -> None:
        self._controllers += 1
        environment = {
            "POD_NAME": f"controller-{self._controllers}",
            "POD_NAMESPACE": self.kube.namespace,
            "WATCH_NAMESPACE": self.kube.namespace,
            "METRICS_PORT": str(free_port()),
            "HEALTH_PORT": str(free_port()),
        }
        command = [sys.executable, "-m", "knrollout"]
        self._child = Child(
            command, console=self._log, on_orphaned=signal.SIGKILL, env=dict(os.environ) | environment
        )

    def kill_controller(self) -> None:
        assert self._child is not None
        self._child.stop(Step(signal.SIGKILL, 10.0))

    def service(self, **environment: str) -> str:
        """Changes the Service. Returns the new revision's name."""
        before = self.latest()
        container = {
            "image": self._image,
            "command": ["python", "-c", SERVER],
            "env": [{"name": name, "value": value} for name, value in environment.items()],
        }
        template = {"spec": {"containers": [container]}}
        self.kube.apply(
            {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Service",
                "metadata": {"name": SERVICE},
                "spec": {"template": template},
            }
        )

        def newer() -> str | None:
            latest = self.latest()
            return latest if latest != before else None

        return self.kube.until(SECONDS, "a new revision", newer)

    def latest(self) -> str | None:
        (service, *_) = [s for s in self.kube.items("ksvc") if s["metadata"]["name"] == SERVICE] or [{}]
        name: str | None = service.get("status", {}).get("latestCreatedRevisionName")
        return name

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.kube.get(names.PLURAL, SERVICE).get("status", {})
        return status

    def until(self, condition: str, **fields: Any) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if all(status.get(name) == value for name, value in fields.items()) else None

        return self.kube.until(SECONDS, condition, look)

    def shares(self) -> dict[str, int]:
        traffic = self.kube.get("ksvc", SERVICE)["status"]["traffic"]
        return {entry["revisionName"]: entry["percent"] for entry in traffic if entry.get("percent")}

    def kn(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from knrollout.cli.app import main; main()", *words]
        return subprocess.run(
            [*command, "--namespace", self.kube.namespace],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    kube = Kube("canary-controller")
    run(["kubectl", "apply", "--server-side", f"--filename={ROOT / 'argo/crd/knativerollout.yaml'}"])
    run(["kubectl", "wait", "--for=condition=Established", f"crd/{names.PLURAL}.{names.GROUP}"])
    # Deleting the namespace of an earlier run takes minutes on a busy node.
    kube.kubectl("delete", "namespace", kube.namespace, "--ignore-not-found", "--timeout=600s")
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace}})
    verdicts = Verdicts(os.environ["HOST"])
    trial = Trial(kube, os.environ["IMAGE"], verdicts, tmp_path_factory.mktemp("controller") / "log")
    try:
        trial.start_controller()
        trial.service(RELEASE="first")
        kube.apply(*objects(verdicts.url))
        trial.until("the first adoption", phase="Healthy")
        yield trial
    finally:
        trial.kill_controller()
        verdicts.close()
        kube.kubectl("delete", "namespace", kube.namespace, "--wait=false")


def objects(url: str) -> list[dict[str, Any]]:
    metric = {
        "name": "verdict",
        "interval": "1s",
        "count": 3,
        "inconclusiveLimit": 2,
        "successCondition": 'result == "fine"',
        "failureCondition": 'result == "worse"',
        "provider": {"web": {"url": url, "jsonPath": "{$.verdict}"}},
    }
    template = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "verdict"},
        "spec": {"metrics": [metric]},
    }
    rollout = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": SERVICE},
        "spec": {
            "workloadRef": {"name": SERVICE},
            "progressDeadlineSeconds": 90,
            # The module's other revisions lie between the two. Knative may or may not have deleted them already.
            "rollbackWindow": {"revisions": 9},
            "strategy": {"canary": {"steps": STEPS, "scaleDownDelaySeconds": 1}},
        },
    }
    return [template, rollout]


def release_to_last_step(trial: Trial) -> str:
    """Returns the revision once its release waits at the last step."""
    revision = trial.service(RELEASE=f"{id(object())}")
    trial.until("the last pause", phase="Paused", currentStepIndex=3, canaryRevision=revision)
    return revision


def test_a_release_goes_by_its_steps_and_a_promotion_ends_it(trial: Trial) -> None:
    stable = trial.status()["stableRevision"]
    canary = release_to_last_step(trial)
    assert trial.shares() == {stable: 50, canary: 50}
    assert trial.kn("promote", SERVICE).returncode == 0
    assert trial.kn("status", SERVICE, "--timeout", "200s").returncode == 0
    assert trial.shares() == {canary: 100}


def test_a_release_that_an_analysis_calls_worse_goes_back_by_itself(trial: Trial) -> None:
    stable = trial.status()["stableRevision"]
    trial.verdicts.verdict = "worse"
    try:
        canary = trial.service(RELEASE="worse")
        process = trial.kn("status", SERVICE, "--timeout", "200s")
    finally:
        trial.verdicts.verdict = "fine"
    assert (process.returncode, trial.status()["canaryRevision"]) == (1, canary)
    assert trial.status()["reason"] == "AnalysisRunFailed"
    assert trial.shares() == {stable: 100}


def test_an_analysis_without_a_result_pauses_and_promotes_nothing(trial: Trial) -> None:
    trial.verdicts.verdict = "too_few"
    try:
        canary = trial.service(RELEASE="quiet")
        trial.until("a pause", phase="Paused", reason="InconclusiveAnalysisRun", canaryRevision=canary)
    finally:
        trial.verdicts.verdict = "fine"
    assert trial.kn("retry", SERVICE).returncode == 0
    trial.until("the last pause", currentStepIndex=3)
    assert trial.kn("abort", SERVICE).returncode == 0
    trial.until("the abort", phase="Degraded", reason="UserAborted")


def test_a_revision_that_crashes_at_its_start_goes_back_at_the_deadline(trial: Trial) -> None:
    stable = trial.status()["stableRevision"]
    canary = trial.service(CRASH="yes")
    trial.until("the abort", reason="ProgressDeadlineExceeded", phase="Degraded", canaryRevision=canary)
    assert trial.shares() == {stable: 100}


def test_a_controller_that_is_killed_at_every_step_changes_nothing_in_the_end(trial: Trial) -> None:
    canary = trial.service(RELEASE="killed")
    for step in (0, 1, 2, 3):
        trial.kube.until(
            SECONDS,
            f"step {step}",
            lambda step=step: trial.status().get("currentStepIndex", 0) >= step or None,
        )
        trial.kill_controller()
        trial.start_controller()
    trial.until("the last pause", phase="Paused", currentStepIndex=3, canaryRevision=canary)
    assert trial.kn("promote", SERVICE).returncode == 0
    trial.until("the end", phase="Healthy", stableRevision=canary)
    assert trial.shares() == {canary: 100}


def test_an_undo_goes_back_to_the_stable_revision_before(trial: Trial) -> None:
    before = trial.status()["stableRevision"]
    assert trial.kn("undo", SERVICE).returncode == 0
    status = trial.until("the end", phase="Healthy")
    assert trial.kn("status", SERVICE, "--timeout", "200s").returncode == 0
    status = trial.status()
    assert status["stableRevision"] != before
    assert trial.shares() == {status["stableRevision"]: 100}


def test_a_manual_edit_of_the_traffic_is_preserved_and_reported(trial: Trial) -> None:
    canary = release_to_last_step(trial)
    stable = trial.status()["stableRevision"]
    patch = {"spec": {"traffic": [{"revisionName": stable, "percent": 100}]}}
    trial.kube.kubectl("patch", "ksvc", SERVICE, "--type=merge", f"--patch={json.dumps(patch)}")
    trial.until("the pause", phase="Paused", reason="TrafficEdited")
    assert trial.shares() == {stable: 100}
    assert trial.kn("promote", SERVICE).returncode == 0
    trial.until("the split", phase="Paused", reason="CanaryPauseStep")
    assert trial.shares() == {stable: 50, canary: 50}


def test_events_report_the_release(trial: Trial) -> None:
    reasons = {event["reason"] for event in trial.kube.items("events") if event["type"]}
    assert {"Started", "SetWeight", "Promoted", "Aborted", "Healthy"} <= reasons
