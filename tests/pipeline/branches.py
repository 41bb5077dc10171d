"""Every kind of build of the Jenkinsfile, by the harness with recorded steps: what it ran and what became of it.

`python -m tests.pipeline.branches` prints them as the table of docs/reference/pipeline.md.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from orderflow.sandbox.sandbox import ROOT
from tests.pipeline import builds

JENKINSFILE = ROOT / "Jenkinsfile"
FINDINGS, FAILED = ({"build/snyk/verdict": f"{word}\n"} for word in ("findings", "failed"))
TAKEN_BACK = {"build/rollouts/verdict": "track: Degraded: the analysis order-outcomes failed\n"}
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
    "rolled back": {"faults": [{"at": "make deploy-production"}], "files": TAKEN_BACK},
    "pull request": {"branch": "PR-7"},
    "branch": {"branch": "feature"},
    "aborted in tests": {"faults": [{"at": "make coverage", "stopped": True}]},
    "aborted in production": {"faults": [{"at": "make deploy-production", "stopped": True}]},
}


def harness(jenkinsfile: Path, scenarios: dict[str, dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """The file read, and run once for each; what it says is JSON."""
    each = [{"branch": "main", "faults": []} | given | {"name": name} for name, given in scenarios.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(each, file)
        file.flush()
        command = builds.harness(jenkinsfile, Path(file.name))
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def recorded() -> dict[str, Any]:
    """What the harness says of the file (`outline`) and of every build (`builds`)."""
    done = harness(JENKINSFILE, SCENARIOS)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shells(build: dict[str, Any]) -> list[str]:
    """The shell's commands, without their arguments."""
    return [re.split(r" \w+=", script)[0] for script in _scripts(build)]


def as_markdown(told: dict[str, Any]) -> str:
    """A row for each build: how many of a good build's commands it ran, and which was the last."""
    cleaning = "make registry-logout"
    whole = len(set(_scripts(told["builds"][0])) - {cleaning})
    lines = [
        "| build | ended | it says | commands run | the last one | logged out |",
        "|---|---|---|---|---|---|",
    ]
    for build in told["builds"]:
        ran = _scripts(build)
        logged_out = "yes" if cleaning in ran else "was not in"
        scripts = [each for each in ran if each != cleaning]
        different = len(set(scripts))
        count = f"{different} of {whole}" + ("" if different == len(scripts) else ", one twice")
        says = f"`{build['description']}`" if build["description"] else ""
        row = (build["name"], build["result"], says, count, f"`{scripts[-1]}`", logged_out)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _scripts(build: dict[str, Any]) -> list[str]:
    return [event["what"] for event in build["events"] if event["step"] == "sh"]


if __name__ == "__main__":
    sys.stdout.write(as_markdown(recorded()))
