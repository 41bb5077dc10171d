"""SonarQube's answers gate an analysis, recorded from runs of `make sonar` on this project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import sonar
from pipeline.sonar import Condition, NoVerdictError
from pipeline.sonarqube import SonarQube

ROOT = Path(__file__).parents[3]
RECORDED = json.loads((Path(__file__).parent / "sonarqube_answers.json").read_text())
"""By run, then by path; the authors of issues are removed."""
SETTINGS = ROOT / "sonar-project.properties"


class Answers:
    """Returns the recorded answers; of several for one path one after the other, and the last one repeatedly."""

    def __init__(self, run: str, **others: Sequence[Any]) -> None:
        self._answers = {path: list(answers) for path, answers in RECORDED[run].items()}
        self._answers |= {path.replace("__", "/"): list(answers) for path, answers in others.items()}
        self.requests: list[tuple[str, Mapping[str, str | int]]] = []

    def __call__(self, path: str, /, **parameters: str | int) -> dict[str, Any]:
        self.requests.append((path, parameters))
        answers = self._answers[path]
        answer: dict[str, Any] = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer


class Recorded:
    """A stand-in for the scanner: records its commands, and writes the scanner's report."""

    def __init__(self, *, code: int = 0) -> None:
        self.commands: list[list[str]] = []
        self.environments: list[Mapping[str, str]] = []
        self._code = code

    def __call__(self, command: Sequence[str], variables: Mapping[str, str], /) -> int:
        self.commands.append(list(command))
        self.environments.append(variables)
        folders = [
            each.partition("=")[2] for each in command if each.startswith("-Dsonar.working.directory=")
        ]
        report_of(Path(folders[0]) / sonar.REPORT.name if folders else sonar.REPORT)
        return self._code


def report_of(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("projectKey=orderflow\nserverUrl=http://127.0.0.1:1\nceTaskId=4711\n")
    return file


def summary(run: str) -> list[str]:
    get = Answers(run)
    gate = sonar.verdict(get, "an analysis")
    issues = sonar.open_issues(get)
    return list(sonar.summary(issues, sonar.hotspots_to_review(get), sonar.measures(get), gate))


def test_a_gate_that_fails_says_which_condition_is_not_met() -> None:
    gate = sonar.verdict(Answers("failed"), "an analysis")
    assert not gate.passed
    assert [each.metric for each in gate.conditions if not each.met] == ["new_coverage", "new_violations"]
    assert summary("failed")[-1] == "quality gate 'Sonar way' over all code: FAILED"
    assert [each for each in summary("failed") if each.startswith("NOT MET")] == [
        "NOT MET  new_coverage is 57.3, 80 or more is wanted",
        "NOT MET  new_violations is 2, 0 or less is wanted",
    ]


def test_a_gate_that_passes_says_so_with_the_counts_before() -> None:
    lines = summary("passed")
    assert lines[-1] == "quality gate 'Sonar way' over all code: passed"
    assert "0 open issues, 0 security hotspots to review" in lines
    assert [line.split() for line in lines if line.startswith(("security ", "reliability", "maintain"))] == [
        [quality, "0", "0", "0", "0", "0"] for quality in ("security", "reliability", "maintainability")
    ]
    assert len([line for line in lines if line.startswith("met ")]) == 3


def test_every_open_issue_is_counted_for_each_quality_that_it_bears_on() -> None:
    issues = sonar.open_issues(Answers("failed"))
    assert len(issues) == 2
    impacts = [(quality, severity) for issue in issues for quality, severity in issue.impacts.items()]
    for quality in sonar.QUALITIES:
        row = next(line for line in summary("failed") if line.startswith(quality.lower()))
        assert [int(word) for word in row.split()[1:]] == [
            impacts.count((quality, severity)) for severity in sonar.SEVERITIES
        ]
    assert all(issue.rule in str(issue) and issue.text in str(issue) for issue in issues)


def test_all_pages_of_issues_are_read() -> None:
    first_page = RECORDED["failed"]["issues/search"][0]
    page = first_page | {"issues": first_page["issues"][:1] * 500, "paging": {"total": 501}}
    answers = Answers(
        "failed",
        issues__search=[page, first_page | {"issues": first_page["issues"][:1], "paging": {"total": 501}}],
    )
    assert len(sonar.open_issues(answers)) == 501
    assert [parameters["p"] for _, parameters in answers.requests] == [1, 2]
    with pytest.raises(NoVerdictError, match="more than 10000"):
        sonar.open_issues(Answers("failed", issues__search=[page | {"paging": {"total": 10_001}}]))


def test_a_gate_that_judged_nothing_is_no_pass() -> None:
    status = {"projectStatus": {"status": "OK", "conditions": []}}
    with pytest.raises(NoVerdictError, match="judged nothing"):
        sonar.verdict(Answers("passed", qualitygates__project_status=[status]), "an analysis")


def test_a_condition_reads_as_the_server_means_it() -> None:
    status = {
        "projectStatus": {
            "status": "ERROR",
            "conditions": [
                {"status": "ERROR", "metricKey": "new_coverage", "comparator": "LT", "errorThreshold": "80"}
            ],
        }
    }
    gate = sonar.verdict(Answers("passed", qualitygates__project_status=[status]), "an analysis")
    assert gate.conditions == (Condition("new_coverage", "unknown", "80 or more", met=False),)


def test_an_analysis_is_waited_for_and_one_that_the_server_could_not_take_in_is_no_verdict(
    tmp_path: Path,
) -> None:
    report = report_of(tmp_path / "report-task.txt")
    finished_task = RECORDED["passed"]["ce/task"][0]
    waiting = {"task": {"status": "PENDING"}}
    answers = Answers("passed", ce__task=[waiting, finished_task])
    assert sonar.wait_for_analysis(answers, report) == finished_task["task"]["analysisId"]
    assert answers.requests == [("ce/task", {"id": "4711"})] * 2
    failed = {"task": {"status": "FAILED", "errorMessage": "no space left"}}
    with pytest.raises(NoVerdictError, match="FAILED: no space left"):
        sonar.wait_for_analysis(Answers("passed", ce__task=[failed]), report)
    with pytest.raises(NoVerdictError, match="after 0 s"):
        sonar.wait_for_analysis(Answers("passed", ce__task=[waiting]), report, seconds=0)
    with pytest.raises(NoVerdictError, match="names no task"):
        sonar.wait_for_analysis(answers, tmp_path / "nothing")


class Server(SonarQube):
    """A server with recorded answers."""

    def get(self, path: str, /, **parameters: str | int) -> dict[str, Any]:
        return Answers("passed")(path, **parameters)

    def post(self, path: str, /, **parameters: str | int) -> dict[str, Any]:
        assert path == "settings/set", parameters
        return {}


def test_an_empty_folder_is_analysed_before_this_one_is_and_no_token_is_in_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sonar.ISSUES.parent.mkdir(parents=True)
    scanner = Recorded()
    server = Server("http://127.0.0.1:1", tmp_path, "a password", "a token")
    assert sonar.judge(server, scanner, accepted=False)
    empty, whole = scanner.commands
    assert "-Dsonar.projectDate=2000-01-01" in empty
    assert "-Dsonar.projectKey=orderflow" in empty
    assert whole == ["make", "--no-print-directory", "sonar-scan"]
    assert all("a token" not in word for command in scanner.commands for word in command)
    assert scanner.environments == [{"SONAR_HOST_URL": "http://127.0.0.1:1", "SONAR_TOKEN": "a token"}] * 2
    assert capsys.readouterr().out.splitlines()[-1].endswith("passed")
    sonar.judge(server, scanner, accepted=True)
    assert scanner.commands[-1][-1] == "SCAN=-Dsonar.issue.ignore.multicriteria="


def test_a_scanner_that_fails_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server = Server("http://127.0.0.1:1", tmp_path, "a password", "a token")
    with pytest.raises(NoVerdictError, match="the scanner failed"):
        sonar.analyse(server, Recorded(code=1))


def test_without_coverage_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sonar.main([]) == 2
    assert capsys.readouterr().err == "sonar: build/coverage.xml is not there; `make test` writes it\n"


def settings(text: str) -> dict[str, str]:
    """The properties; a line that ends with a backslash continues in the next one."""
    joined = text.replace("\\\n", "")
    pairs = (line.partition("=") for line in joined.splitlines() if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def faults_of(text: str) -> list[str]:
    """What is faults with the accepted issues."""
    head = "sonar.issue.ignore.multicriteria"
    properties = settings(text)
    listed = [each.strip() for each in properties[head].split(",")]
    defined = {name.split(".")[4] for name in properties if name.startswith(f"{head}.")}
    faults = [f"{name} is not listed" for name in defined - set(listed)]
    faults += [f"{name} is listed twice" for name in set(listed) if listed.count(name) > 1]
    for name in listed:
        faults += [
            f"{name} has no {part}"
            for part in ("ruleKey", "resourceKey")
            if f"{head}.{name}.{part}" not in properties
        ]
    reason = False
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("#"):
            reason = True
        elif not line.strip():
            reason = False
        elif line.startswith(f"{head}.") and not reason:
            faults.append(f"{line.split('.')[4]} has no reason")
    return faults


def test_whatever_is_accepted_has_a_rule_a_place_and_a_reason() -> None:
    text = SETTINGS.read_text()
    assert faults_of(text) == []
    head = "sonar.issue.ignore.multicriteria"
    assert faults_of(text + f"\n{head}.more.ruleKey=python:S1\n") == [
        "more is not listed",
        "more has no reason",
    ]
    cut = text.replace(f"{head}.pairs.resourceKey=orderflow/domain/deadlines.py\n", "")
    assert faults_of(cut) == ["pairs has no resourceKey"]


def test_the_settings_and_the_program_speak_of_the_same_project_and_files() -> None:
    properties = settings(SETTINGS.read_text())
    assert properties["sonar.projectKey"] == sonar.PROJECT
    assert properties["sonar.working.directory"] == str(sonar.REPORT.parent)
    assert properties["sonar.python.coverage.reportPaths"] == str(sonar.COVERAGE)
    for path in [*properties["sonar.sources"].split(","), *properties["sonar.tests"].split(",")]:
        assert (ROOT / path).exists(), path
