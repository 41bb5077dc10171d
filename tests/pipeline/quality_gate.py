"""The quality gate in a run: it judges all code of the good commit, and the changes of the bad commit.

A new server passes the first analysis of any project. So an empty version of the project is analysed before the good
commit, and the good commit before the bad one.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from pipeline.sonar import PROJECT, NoVerdictError, analyse_baseline, open_issues, verdict
from pipeline.sonarqube import SonarQube
from tests.pipeline.builds import FinishedBuild


def _run_quietly(command: Sequence[str], variables: Mapping[str, str]) -> int:
    process = subprocess.run(
        command,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if process.returncode:
        sys.stderr.write(process.stdout)
    return process.returncode


class QualityGate:
    """The gate of the SonarQube that this run has started."""

    def __init__(self, server: SonarQube) -> None:
        self._server = server

    def judge_all_code(self) -> None:
        """Makes all code new, so that all of it must be covered. Not for a run with fewer tests.

        Raises NoVerdictError and ServerFailedError.
        """
        analyse_baseline(self._server, _run_quietly)

    def judge_changes(self) -> None:
        """Makes new only what changes after the newest analysis."""
        self._server.post(
            "new_code_periods/set",
            project=PROJECT,
            branch="main",
            type="SPECIFIC_ANALYSIS",
            value=self._newest(),
        )

    def reached(self, build: FinishedBuild) -> bool:
        """Whether the build reached the gate."""
        return any(stage.name == "Quality gate" and stage.outcome != "skipped" for stage in build.stages)

    def result(self) -> str:
        """The result of each condition for the newest analysis, in a sentence."""
        try:
            gate = verdict(self._server.get, self._newest())
        except NoVerdictError as error:
            return str(error)
        results = (f"{condition}: {'met' if condition.met else 'not met'}" for condition in gate.conditions)
        return f"the gate {gate.gate!r} {'passed' if gate.passed else 'failed'}: {'; '.join(results)}"

    def issues(self) -> list[str]:
        """The open issues, with their locations. Raises NoVerdictError and ServerFailedError."""
        return [str(issue) for issue in open_issues(self._server.get)]

    def _newest(self) -> str:
        analyses = self._server.get("project_analyses/search", project=PROJECT, ps=1)["analyses"]
        return str(analyses[0]["key"])
