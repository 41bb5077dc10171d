"""Every kind of build of the Jenkinsfile, by the harness with recorded steps: which commands it ran, and its result.

`python -m tests.pipeline.branches` prints them as the table of docs/reference/pipeline.md.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from orderflow_sandbox.sandbox import ROOT
from tests.pipeline import builds

JENKINSFILE = ROOT / "Jenkinsfile"
FINDINGS, FAILED = ({"build/snyk/verdict": f"{word}\n"} for word in ("findings", "failed"))
ABORTED_ROLLOUT = {"build/rollouts/verdict": "track: Degraded: the analysis order-outcomes failed\n"}
SCENARIOS: dict[str, dict[str, Any]] = {
    "pass": {},
    "lint": {"faults": [{"at": "make lint"}]},
    "contracts": {"faults": [{"at": "make asyncapi"}]},
    "tests": {"faults": [{"at": "make coverage"}]},
    "gate failed": {"gate": "ERROR"},
    "gate timeout": {"gate": "timeout"},
    "findings": {"faults": [{"at": 'make snyk SCANS="dep'}], "files": FINDINGS},
    "tool failure": {"faults": [{"at": 'make snyk SCANS="dep'}], "files": FAILED},
    "tool missing": {"faults": [{"at": 'make snyk SCANS="dep'}]},
    "findings in the image": {"faults": [{"at": "make snyk SCANS=image"}], "files": FINDINGS},
    "push refused": {"faults": [{"at": "image-push"}]},
    "push broke off once": {"faults": [{"at": "image-push", "times": 1}]},
    "not signed": {"faults": [{"at": "sign"}]},
    "staging not up": {"faults": [{"at": "make deploy-staging"}]},
    "staging tests failed": {"faults": [{"at": "make postman"}]},
    "staging loses orders": {"faults": [{"at": "make audit-staging"}]},
    "rolled back": {"faults": [{"at": "make deploy-production"}], "files": ABORTED_ROLLOUT},
    "pull request": {"branch": "PR-7"},
    "branch": {"branch": "feature"},
    "aborted in tests": {"faults": [{"at": "make coverage", "stopped": True}]},
    "aborted in production": {"faults": [{"at": "make deploy-production", "stopped": True}]},
}


def harness(jenkinsfile: Path, scenarios: dict[str, dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Reads the file and runs it once for each scenario. The output is JSON."""
    builds_to_run = [
        {"branch": "main", "faults": []} | scenario | {"name": name} for name, scenario in scenarios.items()
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(builds_to_run, file)
        file.flush()
        command = builds.harness(jenkinsfile, Path(file.name))
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def run_scenarios() -> dict[str, Any]:
    """The harness's report about the file (`outline`) and about every build (`builds`)."""
    process = harness(JENKINSFILE, SCENARIOS)
    assert process.returncode == 0, process.stderr[-2000:]
    report: dict[str, Any] = json.loads(process.stdout)
    return report


def shells(build: dict[str, Any]) -> list[str]:
    """The commands of the steps `sh`, without their arguments."""
    return [re.split(r" \w+=", script)[0] for script in _scripts(build)]


def as_markdown(report: dict[str, Any]) -> str:
    """A row for each build: how many of a good build's commands it ran, and the last one."""
    logout = "make registry-logout"
    total = len(set(_scripts(report["builds"][0])) - {logout})
    lines = [
        "| build | ended | it says | commands run | the last one | logged out |",
        "|---|---|---|---|---|---|",
    ]
    for build in report["builds"]:
        commands = _scripts(build)
        logged_out = "yes" if logout in commands else "was not in"
        scripts = [each for each in commands if each != logout]
        different = len(set(scripts))
        count = f"{different} of {total}" + ("" if different == len(scripts) else ", one twice")
        description = f"`{build['description']}`" if build["description"] else ""
        row = (build["name"], build["result"], description, count, f"`{scripts[-1]}`", logged_out)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _scripts(build: dict[str, Any]) -> list[str]:
    return [event["what"] for event in build["events"] if event["step"] == "sh"]


if __name__ == "__main__":
    sys.stdout.write(as_markdown(run_scenarios()))
