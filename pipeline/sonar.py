"""Analyses the project with a local SonarQube, and applies its built-in quality gate to all code: `make sonar`.

The built-in gate judges new code only, so it passes every first analysis. Here the first analysis is of an empty
folder, dated before every commit: then all code is new, and the gate judges all of it.

The last lines are the number of issues by kind, and the gate's verdict. Exit code 0: passed; 1: failed; 2: there is no
verdict, because something is missing or an analysis failed; 130: interrupted. The server is always stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from orderflow_sandbox.servers.errors import ServerFailedError
from pipeline.commands import NotReadyError, run
from pipeline.sonarqube import FOLDER, OTHER_USER, sonarqube

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.sonarqube import SonarQube

PROJECT: Final = "orderflow"
COVERAGE: Final = Path("build/coverage.xml")
REPORT: Final = Path("build/scannerwork/report-task.txt")
"""The scanner writes the id of the server's task to it; sonar-project.properties names the folder."""
ISSUES: Final = FOLDER / "issues.txt"
QUALITIES: Final = ("SECURITY", "RELIABILITY", "MAINTAINABILITY")
SEVERITIES: Final = ("BLOCKER", "HIGH", "MEDIUM", "LOW", "INFO")
_BASELINE_DATE: Final = "2000-01-01"
_RETENTION_WEEKS: Final = 5200
"""Reaches back to the baseline. By default the server deletes analyses after 5 years, the baseline among them."""
_PAGE_SIZE: Final = 500
_SEARCH_LIMIT: Final = 10_000
"""The server returns no more results of one search."""
_PRINTED_ISSUES: Final = 40
_TASK_SECONDS: Final = 600.0
_POLL_SECONDS: Final = 0.5


class NoVerdictError(Exception):
    """An analysis failed, or the gate had no condition to judge."""


class Execute(Protocol):
    """Runs a command with more variables in its environment, shows its output, and returns its exit code."""

    def __call__(self, command: Sequence[str], variables: Mapping[str, str], /) -> int: ...


class Get(Protocol):
    """Returns the server's answer to GET api/`path`."""

    def __call__(self, path: str, /, **parameters: str | int) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Condition:
    metric: str
    actual: str
    threshold: str
    met: bool

    def __str__(self) -> str:
        return f"{self.metric} is {self.actual}, {self.threshold} is wanted"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a quality gate for one analysis. The server decides `passed`."""

    gate: str
    passed: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Issue:
    """An open issue. `impacts` has a severity for each software quality that the issue affects."""

    rule: str
    location: str
    text: str
    impacts: Mapping[str, str]

    def __str__(self) -> str:
        impacts = ", ".join(f"{quality} {severity}".lower() for quality, severity in self.impacts.items())
        return f"{self.location}: {self.text} [{self.rule}; {impacts}]"


def analyse_baseline(server: SonarQube, execute: Execute, *, project: str = PROJECT) -> None:
    """Analyses an empty folder as the project's first version, so that the gate takes all later code for new.

    Raises NoVerdictError and ServerFailedError.
    """
    server.post(
        "settings/set", key="sonar.dbcleaner.weeksBeforeDeletingAllSnapshots", value=str(_RETENTION_WEEKS)
    )
    with tempfile.TemporaryDirectory(prefix="orderflow-empty-") as empty:
        work = Path(empty) / "work"
        settings = {
            "projectBaseDir": empty,
            "working.directory": str(work),
            "projectKey": project,
            "projectVersion": "empty",
            "projectDate": _BASELINE_DATE,
        }
        scanner = str(Path(sys.executable).with_name("pysonar"))
        _scan([scanner, *(f"-Dsonar.{name}={value}" for name, value in settings.items())], server, execute)
        wait_for_analysis(server.get, work / REPORT.name)


def analyse(server: SonarQube, execute: Execute, *, accepted: bool = False) -> str:
    """Analyses this checkout as Jenkins does, and returns the id of the analysis. `accepted` also reports the accepted
    issues.

    Raises NoVerdictError and ServerFailedError.
    """
    command = ["make", "--no-print-directory", "sonar-scan"]
    _scan([*command, "SCAN=-Dsonar.issue.ignore.multicriteria="] if accepted else command, server, execute)
    return wait_for_analysis(server.get, REPORT)


def _scan(command: Sequence[str], server: SonarQube, execute: Execute) -> None:
    if execute(command, {"SONAR_HOST_URL": server.url, "SONAR_TOKEN": server.token}) != 0:
        raise NoVerdictError("the scanner failed; its output is above")


def wait_for_analysis(get: Get, report: Path, seconds: float = _TASK_SECONDS) -> str:
    """Waits until the server has processed the analysis of a scanner's report, and returns the id of the analysis.

    Raises NoVerdictError where the server fails to process it, or takes longer than `seconds`.
    """
    try:
        pairs = (line.partition("=") for line in report.read_text().splitlines())
        task_id = {name: value for name, _, value in pairs}["ceTaskId"]
    except (OSError, KeyError):
        raise NoVerdictError(f"{report} names no task of the server") from None
    deadline = time.monotonic() + seconds
    while True:
        task = get("ce/task", id=task_id)["task"]
        if task["status"] == "SUCCESS":
            return str(task["analysisId"])
        if task["status"] not in {"PENDING", "IN_PROGRESS"}:
            reason = task.get("errorMessage", "the server gives no reason")
            raise NoVerdictError(f"the server's task for the analysis is {task['status']}: {reason}")
        if time.monotonic() > deadline:
            raise NoVerdictError(f"the server has not processed the analysis after {seconds:g} s")
        time.sleep(_POLL_SECONDS)


def verdict(get: Get, analysis: str, project: str = PROJECT) -> Verdict:
    """Raises NoVerdictError where the gate judged no condition: the server calls that a pass."""
    gate = get("qualitygates/get_by_project", project=project)["qualityGate"]["name"]
    status = get("qualitygates/project_status", analysisId=analysis)["projectStatus"]
    conditions = tuple(_condition(each) for each in status["conditions"])
    if not conditions:
        raise NoVerdictError(
            f"the gate {gate!r} judged nothing: there is no new code, or it has no condition"
        )
    return Verdict(gate, status["status"] == "OK", conditions)


def _condition(answer: Mapping[str, str]) -> Condition:
    direction = "more" if answer["comparator"] == "LT" else "less"
    threshold = f"{answer['errorThreshold']} or {direction}"
    actual = answer.get("actualValue", "unknown")
    return Condition(answer["metricKey"], actual, threshold, answer["status"] == "OK")


def open_issues(get: Get, project: str = PROJECT) -> list[Issue]:
    """Sorted by location. Raises NoVerdictError where there are more issues than the server returns."""
    issues: list[Issue] = []
    for page in range(1, _SEARCH_LIMIT // _PAGE_SIZE + 1):
        answer = get(
            "issues/search", components=project, issueStatuses="OPEN,CONFIRMED", ps=_PAGE_SIZE, p=page
        )
        issues += [_issue(each) for each in answer["issues"]]
        if page * _PAGE_SIZE >= answer["paging"]["total"]:
            return sorted(issues, key=lambda issue: issue.location)
    raise NoVerdictError(f"there are more than {_SEARCH_LIMIT} open issues")


def _issue(answer: Mapping[str, Any]) -> Issue:
    path = str(answer["component"]).partition(":")[2]
    location = f"{path}:{answer['line']}" if "line" in answer else path
    impacts = {each["softwareQuality"]: each["severity"] for each in answer["impacts"]}
    return Issue(answer["rule"], location, answer["message"], impacts)


def summary(
    issues: Sequence[Issue], hotspots: int, measures: Mapping[str, str], gate: Verdict
) -> Iterator[str]:
    """The last lines of the output: the number of issues by kind, the conditions, the verdict."""
    size = int(measures.get("ncloc", "0"))
    yield (
        f"{size:,} lines of code, {measures.get('coverage', 'unknown')} % covered, "
        f"{measures.get('duplicated_lines_density', 'unknown')} % of the lines duplicated"
    )
    counts = Counter((quality, severity) for issue in issues for quality, severity in issue.impacts.items())
    yield " ".join([f"{'open issues':<18}", *(f"{severity.lower():>8}" for severity in SEVERITIES)])
    for quality in QUALITIES:
        row = (f"{counts[quality, severity]:>8}" for severity in SEVERITIES)
        yield " ".join([f"{quality.lower():<18}", *row])
    yield f"{len(issues)} open issues, {hotspots} security hotspots to review"
    for condition in gate.conditions:
        yield f"{'met' if condition.met else 'NOT MET':<8} {condition}"
    yield f"quality gate {gate.gate!r} over all code: {'passed' if gate.passed else 'FAILED'}"


def measures(get: Get, project: str = PROJECT) -> dict[str, str]:
    """The project's measures by name, without those for which the server has no value."""
    names = "ncloc,coverage,duplicated_lines_density"
    answer = get("measures/component", component=project, metricKeys=names)
    return {each["metric"]: each["value"] for each in answer["component"]["measures"]}


def hotspots_to_review(get: Get, project: str = PROJECT) -> int:
    """The number of security hotspots that nobody has reviewed."""
    return int(get("hotspots/search", project=project, status="TO_REVIEW", ps=1)["paging"]["total"])


def judge(server: SonarQube, execute: Execute, *, accepted: bool) -> bool:
    """Analyses the project, prints the result, and returns whether the gate passed.

    Raises NoVerdictError and ServerFailedError.
    """
    analyse_baseline(server, execute)
    gate = verdict(server.get, analyse(server, execute, accepted=accepted))
    issues = open_issues(server.get)
    ISSUES.write_text("".join(f"{issue}\n" for issue in issues))
    for issue in issues[:_PRINTED_ISSUES]:
        _print(str(issue))
    if len(issues) > _PRINTED_ISSUES:
        _print(f"... and {len(issues) - _PRINTED_ISSUES} more; all are in {ISSUES}")
    for line in summary(issues, hotspots_to_review(server.get), measures(server.get), gate):
        _print(line)
    return gate.passed


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.sonar", description=__doc__)
    parser.add_argument(
        "--user", help=f"the user who runs the server where this is root (default: {OTHER_USER})"
    )
    parser.add_argument("--accepted", action="store_true", help="report the accepted issues, too")
    options = parser.parse_args(arguments)
    try:
        if not COVERAGE.exists():
            raise NotReadyError(f"{COVERAGE} is not there; `make test` writes it")  # noqa: TRY301
        modified = datetime.fromtimestamp(COVERAGE.stat().st_mtime, UTC)
        _print(f"coverage is that of {COVERAGE}, made {modified:%Y-%m-%d %H:%M} UTC")
        _print("SonarQube is starting, which takes two minutes")
        with sonarqube(user=options.user) as server:
            _print(f"SonarQube is up at {server.url}; its logs are in {server.logs}")
            passed = judge(server, run, accepted=options.accepted)
    except (NotReadyError, NoVerdictError, ServerFailedError) as error:
        sys.stderr.write(f"sonar: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("sonar: interrupted; the server is stopped\n")
        return 130
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
