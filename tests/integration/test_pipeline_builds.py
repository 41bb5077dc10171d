"""Builds with steps that do their work, of small Jenkinsfiles and a small repository."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.processes import runs

from tests.pipeline import builds
from tests.pipeline.builds import Credentials, FinishedBuild, Job

AGENT = {name: value for name, value in os.environ.items() if name != "JDK_JAVA_OPTIONS"}
"""A JVM that has options from there says so on the console."""
SECRET = "p4ss+w/rd=="
JUNIT = '<testsuites><testsuite tests="3" failures="{failed}" errors="0" skipped="1"/></testsuites>'
COVERAGE = '<!DOCTYPE coverage SYSTEM "http://x.example/c.dtd"><coverage line-rate="0.9344"/>'

Build = Callable[..., FinishedBuild]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "source.txt").write_text("of the commit")
    git(folder, "add", "source.txt")
    git(folder, "commit", "--quiet", "--message", "One file")
    return folder


@pytest.fixture
def build(repository: Path, tmp_path: Path) -> Build:
    """Runs stages on one agent, or a whole pipeline."""

    def run(
        stages: str, *, branch: str = "main", credentials: Credentials | None = None, **options: Any
    ) -> FinishedBuild:
        text = stages
        if not stages.lstrip().startswith("pipeline"):
            text = (
                f"pipeline {{ agent {{ label 'a' }}\n options {{ timestamps() }}\n stages {{ {stages} }} }}"
            )
        jenkinsfile = tmp_path / "Jenkinsfile"
        jenkinsfile.write_text(text)
        job = Job(
            jenkinsfile=jenkinsfile,
            repository=repository,
            branch=branch,
            commit=git(repository, "rev-parse", "HEAD"),
            folder=tmp_path / "build",
            environment=AGENT | options.pop("environment", {}),
            credentials=credentials or Credentials(),
            **options,
        )
        return builds.run(job)

    return run


def stage(steps: str, post: str = "", name: str = "One") -> str:
    return f"stage('{name}') {{ steps {{ {steps} }}\n {f'post {{ {post} }}' if post else ''} }}\n"


def console(tmp_path: Path) -> str:
    return (tmp_path / "build/console.log").read_text()


def test_a_command_runs_in_a_fresh_clone_and_sees_what_jenkins_tells(build: Build, tmp_path: Path) -> None:
    finished_build = build(
        stage("""sh 'cat source.txt; echo "$BRANCH_NAME $GIT_COMMIT" > variables; test ! -e other'""")
    )
    assert finished_build.result == "SUCCESS"
    output = console(tmp_path)
    assert "of the commit" in output
    assert "+ cat source.txt" in output
    (file,) = (tmp_path / "build").glob("workspace-*/variables")
    assert file.read_text().split() == [
        "main",
        git(tmp_path / "build" / file.parent.name, "rev-parse", "HEAD"),
    ]


def test_every_line_of_the_console_has_its_time(build: Build, tmp_path: Path) -> None:
    build(stage("sh 'printf \"a\\\\nb\\\\n\"'"))
    lines = console(tmp_path).splitlines()
    assert lines
    assert all(line[0] == "[" and line[9] == "]" for line in lines)


def test_a_command_that_fails_fails_the_build_with_its_code_and_nothing_follows(
    build: Build, tmp_path: Path
) -> None:
    finished_build = build(
        stage("sh 'false; touch after'\n sh 'touch after'") + stage("sh 'touch after'", name="Two")
    )
    assert (finished_build.result, finished_build.reason) == ("FAILURE", "script returned exit code 1")
    assert [each.name for each in finished_build.stages] == ["One"]
    assert not list((tmp_path / "build").rglob("after"))


def test_a_pipe_s_secret_is_bound_where_it_is_wanted_and_shown_as_stars(build: Build, tmp_path: Path) -> None:
    credentials = Credentials()
    credentials.string("token", SECRET)
    credentials.login("hub", "somebody", "another-secret")
    credentials.file("key", b"the key's content")
    bindings = """
      withCredentials([string(credentialsId: 'token', variable: 'T'), file(credentialsId: 'key', variable: 'F'),
                       usernamePassword(credentialsId: 'hub', usernameVariable: 'U', passwordVariable: 'P')]) {
        sh 'echo "shown: $T $U $P"; cat "$F" > content; stat -c %a "$F" >> content; echo "$F" > where'
      }
      sh 'test -z "${T:-}${U:-}${P:-}${F:-}"; test ! -e "$(cat where)"'
    """
    assert build(stage(bindings), credentials=credentials).result == "SUCCESS"
    output = console(tmp_path)
    assert "shown: **** somebody ****" in output
    assert SECRET not in output
    assert "another-secret" not in output
    (content,) = (tmp_path / "build").glob("workspace-*/content")
    assert content.read_text() == "the key's content600\n"


@pytest.mark.parametrize(
    ("bindings", "reason"),
    [
        ("string(credentialsId: 'other', variable: 'T')", "Could not find credentials entry with ID 'other'"),
        (
            "file(credentialsId: 'token', variable: 'T')",
            "Credentials 'token' is of type 'string' where 'file' was expected",
        ),
    ],
)
def test_a_credential_that_is_not_there_or_of_another_kind_is_named(
    build: Build, bindings: str, reason: str
) -> None:
    credentials = Credentials()
    credentials.string("token", SECRET)
    finished_build = build(stage(f"withCredentials([{bindings}]) {{ sh 'true' }}"), credentials=credentials)
    assert (finished_build.result, finished_build.reason) == ("FAILURE", reason)


def test_what_breaks_off_is_repeated_as_often_as_it_says(build: Build, tmp_path: Path) -> None:
    once = stage("retry(2) { sh 'echo x >> tries; test $(wc -l < tries) -gt 1' }")
    assert build(once).result == "SUCCESS"
    (tries,) = (tmp_path / "build").glob("workspace-*/tries")
    assert tries.read_text() == "x\nx\n"


def test_what_breaks_off_too_often_fails(build: Build) -> None:
    finished_build = build(stage("retry(3) { sh 'echo x >> tries; exit 7' }"))
    assert (finished_build.result, finished_build.reason) == ("FAILURE", "script returned exit code 7")
    assert finished_build.stages[0].commands == ("echo x >> tries; exit 7",) * 3


def test_a_stage_that_takes_too_long_is_ended_with_all_that_it_started_and_is_cleaned_up_after(
    build: Build, tmp_path: Path
) -> None:
    steps = "sh 'sleep 600 & echo $! > pid; wait'"
    long = f"""stage('Long') {{ options {{ timeout(time: 2, unit: 'SECONDS') }}
      steps {{ {steps} }}
      post {{ aborted {{ sh 'touch aborted' }}
              failure {{ sh 'touch failed' }}
              cleanup {{ sh 'touch cleaned' }} }} }}\n"""
    finished_build = build(long + stage("sh 'touch after'", name="Two"))
    assert (finished_build.result, finished_build.reason) == ("ABORTED", "Timeout has been exceeded: Long")
    (workspace,) = (tmp_path / "build").glob("workspace-?")
    assert {each.name for each in workspace.iterdir()} - {".git"} == {
        "aborted",
        "cleaned",
        "source.txt",
        "pid",
    }
    pid = int((workspace / "pid").read_text())
    assert not runs(pid)


def test_the_whole_build_has_an_end_too(build: Build) -> None:
    finished_build = build(
        f"pipeline {{ agent {{ label 'a' }}\n options {{ timeout(time: 2, unit: 'SECONDS') }}\n"
        f"stages {{ {stage('''sh 'sleep 600' ''')} }} }}"
    )
    assert (finished_build.result, finished_build.reason) == (
        "ABORTED",
        "Timeout has been exceeded: the build",
    )


def test_whoever_runs_it_may_end_it_and_it_cleans_up(build: Build, tmp_path: Path) -> None:
    process: list[subprocess.Popen[str]] = []
    started = stage("sh 'touch started; sleep 600'", "cleanup { sh 'touch cleaned' }")
    jenkinsfile = tmp_path / "Jenkinsfile"
    jenkinsfile.write_text(f"pipeline {{ agent {{ label 'a' }}\n stages {{ {started} }} }}")
    folder = tmp_path / "stopped"
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "None")
    job = Job(jenkinsfile, repository, "main", git(repository, "rev-parse", "HEAD"), folder, {})
    process.append(
        subprocess.Popen(
            builds.harness(jenkinsfile),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    harness = process[0]
    assert harness.stdin is not None
    assert harness.stdout is not None
    harness.stdin.write(job.as_json() + "\n")
    harness.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(folder.glob("workspace-*/started")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    harness.stdin.close()
    finished_build = json.loads(harness.stdout.read().splitlines()[-1])
    harness.wait()
    assert finished_build["result"] == "ABORTED"
    assert list(folder.glob("workspace-*/cleaned"))


def test_another_agent_s_workspace_has_what_was_stashed_and_no_more(build: Build, tmp_path: Path) -> None:
    first = stage("sh 'mkdir build; touch build/one build/two'\n stash name: 'image', includes: 'build/one'")
    second = stage("unstash 'image'\n sh 'test -e build/one; test ! -e build/two'", name="Two")
    parallel_stages = "".join(
        f"stage('{name}') {{ agent {{ label 'a' }}\n stages {{ {text} }} }}\n"
        for name, text in (("A", first), ("B", second))
    )
    finished_build = build(f"pipeline {{ agent none\n stages {{ {parallel_stages} }} }}")
    assert (finished_build.result, finished_build.reason) == ("SUCCESS", "")
    assert len(list((tmp_path / "build").glob("workspace-?"))) == 2


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ("unstash 'image'", "No such saved stash 'image'"),
        ("stash name: 'image', includes: 'build/one'", "No files included in stash 'image'"),
        (
            "archiveArtifacts artifacts: 'build/*.xml'",
            'No artifacts found that match the file pattern "build/*.xml"',
        ),
        ("junit testResults: 'build/tests.xml'", "No test report files were found. Configuration error?"),
    ],
)
def test_what_is_to_be_kept_and_is_not_there_fails(build: Build, steps: str, reason: str) -> None:
    finished_build = build(stage(steps))
    assert (finished_build.result, finished_build.reason) == ("FAILURE", reason)


def test_what_may_be_missing_does_not_fail(build: Build) -> None:
    steps = """archiveArtifacts artifacts: 'build/*', allowEmptyArchive: true
      junit testResults: 'build/tests.xml', allowEmptyResults: true
      recordCoverage tools: [[parser: 'COBERTURA', pattern: 'build/coverage.xml']]"""
    assert build(stage(steps)).result == "SUCCESS"


@pytest.mark.parametrize(("failed", "result"), [(0, "SUCCESS"), (1, "UNSTABLE")])
def test_reports_are_read_and_failed_tests_make_a_build_unstable(
    build: Build, tmp_path: Path, failed: int, result: str
) -> None:
    (tmp_path / "tests.xml").write_text(JUNIT.format(failed=failed))
    (tmp_path / "coverage.xml").write_text(COVERAGE)
    steps = f"""sh 'mkdir build; cp {tmp_path}/*.xml build'
      junit testResults: 'build/tests.xml'
      recordCoverage tools: [[parser: 'COBERTURA', pattern: 'build/coverage.xml']]
      archiveArtifacts artifacts: 'build/*.xml,build/no/*'"""
    finished_build = build(stage(steps))
    assert finished_build.result == result
    assert finished_build.stages[0].notes == (
        f"3 tests, {failed} failed, 1 skipped",
        "93.4 % of lines covered",
    )
    archive = tmp_path / "build/archive/build"
    assert sorted(each.name for each in archive.iterdir()) == ["coverage.xml", "tests.xml"]


def test_a_build_says_in_its_description_what_a_file_says(build: Build) -> None:
    expression = "fileExists('verdict') ? readFile('verdict').trim() : 'none'"
    post = f"failure {{ script {{ currentBuild.description = {expression} }} }}"
    assert build(stage("sh 'echo track: Degraded > verdict; exit 1'", post)).description == "track: Degraded"


def test_a_stage_of_another_branch_is_skipped(build: Build) -> None:
    text = "stage('Push') { when { branch 'main' }\n steps { sh 'false' } }"
    finished_build = build(text, branch="feature")
    assert (finished_build.result, finished_build.stages[0].outcome) == ("SUCCESS", "skipped")


def test_a_command_s_environment_is_the_agent_s_and_the_pipeline_s(build: Build) -> None:
    text = """pipeline { agent { label 'a' }
      environment { REPOSITORY = "${env.OWN ?: 'docker.io/x'}"
                    OTHER = 'o' }
      stages { stage('One') { steps { sh 'test "$REPOSITORY $OTHER $AGENT" = "own/x o yes"' } } } }"""
    assert build(text, environment={"OWN": "own/x", "AGENT": "yes"}).result == "SUCCESS"


class Sonar:
    """A SonarQube with one task and its gate. The task is in progress for the first `polls` requests."""

    def __init__(self, status: str, polls: int = 1) -> None:
        self.requests: list[str] = []
        self.keys: set[str | None] = set()
        sonar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sonar.requests.append(self.path)
                sonar.keys.add(self.headers["Authorization"])
                in_progress = len(sonar.requests) <= polls
                task = {"status": "IN_PROGRESS" if in_progress else "SUCCESS", "analysisId": "A1"}
                gate = "project_status" in self.path
                body = json.dumps({"projectStatus": {"status": status}} if gate else {"task": task}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.servers = {"s": {"url": f"http://127.0.0.1:{self._server.server_port}", "token": SECRET}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sonar(request: pytest.FixtureRequest) -> Iterator[Sonar]:
    server = Sonar(*request.param)
    yield server
    server.close()


ANALYSIS = """stage('Analysis') { agent { label 'a' }
  steps { withSonarQubeEnv('s') {
    sh 'mkdir .scannerwork; echo "ceTaskId=T1" > .scannerwork/report-task.txt'
    sh 'test -n "$SONAR_HOST_URL"; echo "token $SONAR_AUTH_TOKEN"'
  } } }\n"""
GATE = """stage('Gate') { options { timeout(time: 5, unit: 'SECONDS') }
  steps { waitForQualityGate abortPipeline: true } }\n"""


def gated(*stages: str) -> str:
    return f"pipeline {{ agent none\n stages {{ {''.join(stages)} }} }}"


@pytest.mark.parametrize(
    ("sonar", "result", "reason"),
    [
        (("OK",), "SUCCESS", ""),
        (("ERROR",), "FAILURE", "Pipeline aborted due to quality gate failure: ERROR"),
        (("OK", 1000), "ABORTED", "Timeout has been exceeded: Gate"),
    ],
    indirect=["sonar"],
)
def test_the_gate_is_the_server_s_for_this_analysis_and_is_awaited_without_an_agent(
    build: Build, sonar: Sonar, tmp_path: Path, result: str, reason: str
) -> None:
    finished_build = build(gated(ANALYSIS, GATE), sonarqube=sonar.servers)
    assert (finished_build.result, finished_build.reason) == (result, reason)
    assert sonar.requests[0] == "/api/ce/task?id=T1"
    if result != "ABORTED":
        assert sonar.requests[-1] == "/api/qualitygates/project_status?analysisId=A1"
    assert sonar.keys == {f"Bearer {SECRET}"}
    assert SECRET not in console(tmp_path)
    assert "token ****" in console(tmp_path)


def test_a_gate_without_an_analysis_and_a_server_that_nobody_knows_fail(build: Build) -> None:
    assert "withSonarQubeEnv" in build(gated(GATE)).reason
    assert "does not match any configured installation" in build(gated(ANALYSIS)).reason
