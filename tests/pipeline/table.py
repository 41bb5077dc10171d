"""The result of a run, as tables in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.pipeline.builds import FinishedBuild, Stage

_CLONE: Final = "a fresh clone of the commit"
_REGISTRY: Final = "the run's registry, with a login"
AGAINST: Final[Mapping[str, str]] = {
    "Lint and types": _CLONE,
    "Contracts": _CLONE,
    "Tests": f"{_CLONE}; Kafka, PostgreSQL, the sandbox",
    "Manifests": _CLONE,
    "SonarQube analysis": "a SonarQube server",
    "Quality gate": "the same server",
    "Snyk: sources": "nothing",
    "Build": "the docker engine",
    "Snyk: image": "nothing",
    "Push": f"BuildKit; {_REGISTRY}",
    "Sign": f"cosign and a key of the run's; {_REGISTRY}",
    "Deploy to staging": "the cluster, namespace {staging}",
    "Postman": "staging, by newman through the cluster's gateway",
    "Audit of staging": "staging",
    "Production": "the cluster, namespace {production}, orders flowing",
}
"""What each stage ran against. A stage of the Jenkinsfile that is missing here is an error."""
STAND_INS: Final = frozenset({"Snyk: sources", "Snyk: image"})
_HEAD: Final = (
    "| stage | ran | against | | seconds | ended | its reports say |\n|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Run:
    """One build. `title` is a sentence. `tests` are the options of its tests, empty where all tests ran. `observations`
    are sentences about the state after the build; `faults` are the sentences about what is wrong."""

    name: str
    title: str
    commit: str
    build: FinishedBuild
    tests: str
    observations: tuple[str, ...]
    faults: tuple[str, ...]


def as_markdown(run: Run, namespaces: Mapping[str, str]) -> str:
    build = run.build
    seconds = sum(stage.seconds for stage in build.stages)
    lines = [
        f"### {run.title}\n\n",
        f"Commit {run.commit[:12]}: **{build.result}** in {seconds} s of stages",
    ]
    lines.append(f"; {build.reason}" if build.reason else "")
    lines.append(f". The build's description: `{build.description}`.\n\n" if build.description else ".\n\n")
    lines.append(_HEAD)
    lines += [_row(stage, namespaces, run.tests) for stage in build.stages]
    lines.append("\n" + "".join(f"- {observation}\n" for observation in run.observations))
    return "".join(lines)


def _row(stage: Stage, namespaces: Mapping[str, str], test_options: str) -> str:
    against = AGAINST[stage.name].format(**namespaces)
    kind = "**stand-in**" if stage.name in STAND_INS else "real"
    notes = list(stage.notes)
    if stage.name == "Tests" and test_options:
        notes.append(f"shortened to {test_options}")
    commands = "<br>".join(f"`{command}`" for command in dict.fromkeys(stage.commands))
    if stage.outcome == "skipped":
        return f"| {stage.name} | | {against} | {kind} | | skipped | |\n"
    reports = "; ".join(notes)
    return f"| {stage.name} | {commands} | {against} | {kind} | {stage.seconds} | {stage.outcome} | {reports} |\n"


def unknown(stages: Sequence[Stage]) -> list[str]:
    return [stage.name for stage in stages if stage.name not in AGAINST]
