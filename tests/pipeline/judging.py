"""What the gate judges in a run: of the good commit all code, of the bad one what it changes.

A server that is new passes whatever it is sent first. So the good commit has the project's empty version before it, and
the bad commit the good one.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from pipeline.sonar import PROJECT, NoVerdictError, analyse_baseline, open_issues, verdict
from pipeline.sonarqube import SonarQube
from tests.pipeline.builds import Finished


def _quietly(command: Sequence[str], more: Mapping[str, str]) -> int:
    done = subprocess.run(
        command,
        env=os.environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
    return done.returncode


class Judge:
    """Asks the run's server."""

    def __init__(self, server: SonarQube) -> None:
        self._server = server

    def everything(self) -> None:
        """From here on all code is new, and asked to be covered: nothing for a run whose tests are shortened.

        Raises NoVerdictError, ServerFailedError.
        """
        analyse_baseline(self._server, _quietly)

    def from_now_on(self) -> None:
        """What is new is counted from the newest analysis."""
        self._server.post(
            "new_code_periods/set",
            project=PROJECT,
            branch="main",
            type="SPECIFIC_ANALYSIS",
            value=self._newest(),
        )

    def was_asked(self, finished: Finished) -> bool:
        """Whether the build came as far as the gate."""
        return any(stage.name == "Quality gate" and stage.outcome != "skipped" for stage in finished.stages)

    def told(self) -> str:
        """By which conditions the newest analysis was judged, if by any."""
        try:
            about = verdict(self._server.get, self._newest())
        except NoVerdictError as error:
            return str(error)
        met = (f"{each}: {'met' if each.met else 'not met'}" for each in about.conditions)
        return f"the gate {about.gate!r} {'passed' if about.passed else 'failed'}: {'; '.join(met)}"

    def issues(self) -> list[str]:
        """Those that are open, with their places. Raises NoVerdictError, ServerFailedError."""
        return [str(issue) for issue in open_issues(self._server.get)]

    def _newest(self) -> str:
        analyses = self._server.get("project_analyses/search", project=PROJECT, ps=1)["analyses"]
        return str(analyses[0]["key"])
