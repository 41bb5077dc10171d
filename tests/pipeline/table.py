"""What a run did, as tables in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.pipeline.builds import Finished, Stage

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
"""What each stage was run against; a stage of the Jenkinsfile that is not here is an error."""
STAND_INS: Final = frozenset({"Snyk: sources", "Snyk: image"})
_HEAD: Final = (
    "| stage | ran | against | | seconds | ended | its reports say |\n|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Run:
    """One of the two. what is a sentence; tests is what its tests were shortened to, empty where all were run; found is
    what was looked at afterwards, faults what of it must not be."""

    name: str
    what: str
    commit: str
    finished: Finished
    tests: str
    found: tuple[str, ...]
    faults: tuple[str, ...]


def as_markdown(run: Run, places: Mapping[str, str]) -> str:
    finished = run.finished
    seconds = sum(stage.seconds for stage in finished.stages)
    lines = [
        f"### {run.what}\n\n",
        f"Commit {run.commit[:12]}: **{finished.result}** in {seconds} s of stages",
    ]
    lines.append(f"; {finished.why}" if finished.why else "")
    lines.append(
        f". The build's description: `{finished.description}`.\n\n" if finished.description else ".\n\n"
    )
    lines.append(_HEAD)
    lines += [_row(stage, places, run.tests) for stage in finished.stages]
    lines.append("\n" + "".join(f"- {found}\n" for found in run.found))
    return "".join(lines)


def _row(stage: Stage, places: Mapping[str, str], shortened: str) -> str:
    against = AGAINST[stage.name].format(**places)
    kind = "**stand-in**" if stage.name in STAND_INS else "real"
    notes = list(stage.notes)
    if stage.name == "Tests" and shortened:
        notes.append(f"shortened to {shortened}")
    ran = "<br>".join(f"`{command}`" for command in dict.fromkeys(stage.commands))
    if stage.outcome == "skipped":
        return f"| {stage.name} | | {against} | {kind} | | skipped | |\n"
    told = "; ".join(notes)
    return f"| {stage.name} | {ran} | {against} | {kind} | {stage.seconds} | {stage.outcome} | {told} |\n"


def unknown(stages: Sequence[Stage]) -> list[str]:
    return [stage.name for stage in stages if stage.name not in AGAINST]
