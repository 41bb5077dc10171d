"""The project analysed by a SonarQube of our own, and judged by its built-in gate: `make sonar`.

The built-in gate looks at new code only: a project's first analysis passes whatever is in it. Here an empty folder is
analysed first, dated before any commit, so that all code is new and all of it is judged.

The last lines are the counts per kind and the gate's verdict. Exit code 0: passed; 1: failed; 2: there is no verdict,
because something is missing or an analysis failed; 130: interrupted. The server is stopped in any case.
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
"""Where the scanner says which task of the server has its analysis; sonar-project.properties names the folder."""
ISSUES: Final = FOLDER / "issues.txt"
QUALITIES: Final = ("SECURITY", "RELIABILITY", "MAINTAINABILITY")
SEVERITIES: Final = ("BLOCKER", "HIGH", "MEDIUM", "LOW", "INFO")
_BEFORE_ALL_COMMITS: Final = "2000-01-01"
_WEEKS_KEPT: Final = 5200
"""More than since then: the server forgets analyses older than 5 years, and with them what is new."""
_PAGE: Final = 500
_MOST: Final = 10_000
"""What the server hands out of one search."""
_SHOWN: Final = 40
_TASK_SECONDS: Final = 600.0
_POLL_SECONDS: Final = 0.5


class NoVerdictError(Exception):
    """An analysis failed, or the gate had nothing to judge."""


class Execute(Protocol):
    """Runs a command, whose output everybody may see, with more in its environment; gives its exit code."""

    def __call__(self, command: Sequence[str], more: Mapping[str, str], /) -> int: ...


class Ask(Protocol):
    """What the server answers to GET api/`path`."""

    def __call__(self, path: str, /, **parameters: str | int) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Condition:
    metric: str
    actual: str
    wanted: str
    met: bool

    def __str__(self) -> str:
        return f"{self.metric} is {self.actual}, {self.wanted} is wanted"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a gate over one analysis. `passed` is the server's word for it."""

    gate: str
    passed: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Issue:
    """One that is open. `impacts` has a severity for each quality of the software that it bears on."""

    rule: str
    place: str
    text: str
    impacts: Mapping[str, str]

    def __str__(self) -> str:
        bears = ", ".join(f"{quality} {severity}".lower() for quality, severity in self.impacts.items())
        return f"{self.place}: {self.text} [{self.rule}; {bears}]"


def all_is_new(server: SonarQube, execute: Execute, *, project: str = PROJECT) -> None:
    """Analyses an empty folder as the project's first version: whatever comes later is new code to the gate.

    Raises NoVerdictError, ServerFailedError.
    """
    server.tell("settings/set", key="sonar.dbcleaner.weeksBeforeDeletingAllSnapshots", value=str(_WEEKS_KEPT))
    with tempfile.TemporaryDirectory(prefix="orderflow-empty-") as empty:
        work = Path(empty) / "work"
        settings = {
            "projectBaseDir": empty,
            "working.directory": str(work),
            "projectKey": project,
            "projectVersion": "empty",
            "projectDate": _BEFORE_ALL_COMMITS,
        }
        scanner = str(Path(sys.executable).with_name("pysonar"))
        _scan([scanner, *(f"-Dsonar.{name}={value}" for name, value in settings.items())], server, execute)
        judged(server.ask, work / REPORT.name)


def analyse(server: SonarQube, execute: Execute, *, accepted: bool = False) -> str:
    """Sends this checkout as Jenkins does, and gives the analysis' id. With `accepted`, as if nothing were accepted.

    Raises NoVerdictError, ServerFailedError.
    """
    command = ["make", "--no-print-directory", "sonar-scan"]
    _scan([*command, "SCAN=-Dsonar.issue.ignore.multicriteria="] if accepted else command, server, execute)
    return judged(server.ask, REPORT)


def _scan(command: Sequence[str], server: SonarQube, execute: Execute) -> None:
    if execute(command, {"SONAR_HOST_URL": server.url, "SONAR_TOKEN": server.token}) != 0:
        raise NoVerdictError("the scanner failed; what it said is above")


def judged(ask: Ask, report: Path, seconds: float = _TASK_SECONDS) -> str:
    """The id of the analysis that a scanner's report is about, once the server is done with it.

    Raises NoVerdictError where the server failed to take it in, or is not done in time.
    """
    try:
        pairs = (line.partition("=") for line in report.read_text().splitlines())
        number = {name: value for name, _, value in pairs}["ceTaskId"]
    except (OSError, KeyError):
        raise NoVerdictError(f"{report} names no task of the server") from None
    deadline = time.monotonic() + seconds
    while True:
        task = ask("ce/task", id=number)["task"]
        if task["status"] == "SUCCESS":
            return str(task["analysisId"])
        if task["status"] not in {"PENDING", "IN_PROGRESS"}:
            why = task.get("errorMessage", "the server does not say why")
            raise NoVerdictError(f"the server's task for the analysis is {task['status']}: {why}")
        if time.monotonic() > deadline:
            raise NoVerdictError(f"the server has not taken the analysis in after {seconds:g} s")
        time.sleep(_POLL_SECONDS)


def verdict(ask: Ask, analysis: str, project: str = PROJECT) -> Verdict:
    """Raises NoVerdictError where no condition was judged: that is a pass to the server, and says nothing."""
    gate = ask("qualitygates/get_by_project", project=project)["qualityGate"]["name"]
    status = ask("qualitygates/project_status", analysisId=analysis)["projectStatus"]
    conditions = tuple(_condition(each) for each in status["conditions"])
    if not conditions:
        raise NoVerdictError(
            f"the gate {gate!r} judged nothing: there is no new code, or it has no condition"
        )
    return Verdict(gate, status["status"] == "OK", conditions)


def _condition(told: Mapping[str, str]) -> Condition:
    least = told["comparator"] == "LT"
    wanted = f"{told['errorThreshold']} or {'more' if least else 'less'}"
    return Condition(told["metricKey"], told.get("actualValue", "unknown"), wanted, told["status"] == "OK")


def open_issues(ask: Ask, project: str = PROJECT) -> list[Issue]:
    """By place. Raises NoVerdictError where there are more than the server hands out."""
    found: list[Issue] = []
    for page in range(1, _MOST // _PAGE + 1):
        answer = ask("issues/search", components=project, issueStatuses="OPEN,CONFIRMED", ps=_PAGE, p=page)
        found += [_issue(each) for each in answer["issues"]]
        if page * _PAGE >= answer["paging"]["total"]:
            return sorted(found, key=lambda issue: issue.place)
    raise NoVerdictError(f"there are more than {_MOST} open issues")


def _issue(told: Mapping[str, Any]) -> Issue:
    path = str(told["component"]).partition(":")[2]
    place = f"{path}:{told['line']}" if "line" in told else path
    impacts = {each["softwareQuality"]: each["severity"] for each in told["impacts"]}
    return Issue(told["rule"], place, told["message"], impacts)


def lines(
    found: Sequence[Issue], hotspots: int, measures: Mapping[str, str], about: Verdict
) -> Iterator[str]:
    """What is said at the end: the counts per kind, the conditions, the verdict."""
    size = int(measures.get("ncloc", "0"))
    yield (
        f"{size:,} lines of code, {measures.get('coverage', 'unknown')} % covered, "
        f"{measures.get('duplicated_lines_density', 'unknown')} % of the lines duplicated"
    )
    counts = Counter((quality, severity) for issue in found for quality, severity in issue.impacts.items())
    yield " ".join([f"{'open issues':<18}", *(f"{severity.lower():>8}" for severity in SEVERITIES)])
    for quality in QUALITIES:
        row = (f"{counts[quality, severity]:>8}" for severity in SEVERITIES)
        yield " ".join([f"{quality.lower():<18}", *row])
    yield f"{len(found)} open issues, {hotspots} security hotspots to review"
    for condition in about.conditions:
        yield f"{'met' if condition.met else 'NOT MET':<8} {condition}"
    yield f"quality gate {about.gate!r} over all code: {'passed' if about.passed else 'FAILED'}"


def measured(ask: Ask, project: str = PROJECT) -> dict[str, str]:
    """The project's measures by name; one that the server has no value for is not there."""
    names = "ncloc,coverage,duplicated_lines_density"
    told = ask("measures/component", component=project, metricKeys=names)["component"]["measures"]
    return {each["metric"]: each["value"] for each in told}


def to_review(ask: Ask, project: str = PROJECT) -> int:
    """How many security hotspots nobody has reviewed."""
    return int(ask("hotspots/search", project=project, status="TO_REVIEW", ps=1)["paging"]["total"])


def judge(server: SonarQube, execute: Execute, *, accepted: bool) -> bool:
    """Analyses and tells all of it; whether the gate passed. Raises NoVerdictError, ServerFailedError."""
    all_is_new(server, execute)
    about = verdict(server.ask, analyse(server, execute, accepted=accepted))
    found = open_issues(server.ask)
    ISSUES.write_text("".join(f"{issue}\n" for issue in found))
    for issue in found[:_SHOWN]:
        _say(str(issue))
    if len(found) > _SHOWN:
        _say(f"... and {len(found) - _SHOWN} more; all are in {ISSUES}")
    for line in lines(found, to_review(server.ask), measured(server.ask), about):
        _say(line)
    return about.passed


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.sonar", description=__doc__)
    parser.add_argument("--user", help=f"who runs the server where this is root; {OTHER_USER} unless given")
    parser.add_argument("--accepted", action="store_true", help="count what is accepted, too")
    given = parser.parse_args(arguments)
    try:
        if not COVERAGE.exists():
            raise NotReadyError(f"{COVERAGE} is not there; `make test` writes it")  # noqa: TRY301
        made = datetime.fromtimestamp(COVERAGE.stat().st_mtime, UTC)
        _say(f"coverage is that of {COVERAGE}, made {made:%Y-%m-%d %H:%M} UTC")
        _say("SonarQube is starting, which takes two minutes")
        with sonarqube(user=given.user) as server:
            _say(f"SonarQube is up at {server.url}; its logs are in {server.logs}")
            passed = judge(server, run, accepted=given.accepted)
    except (NotReadyError, NoVerdictError, ServerFailedError) as error:
        sys.stderr.write(f"sonar: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("sonar: interrupted; the server is stopped\n")
        return 130
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
