"""What can be said of a rollout from its file alone: what admission would refuse, and what would hurt later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from knrollout.api import names
from knrollout.api.spec import Spec
from knrollout.cluster.reader import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.api.spec import Analysis

NAME_LENGTH: Final = 63


@dataclass(frozen=True)
class Finding:
    """grave: the cluster refuses it, or it cannot work."""

    where: str
    message: str
    grave: bool = True


def lint(text: str) -> list[Finding]:
    """Every KnativeRollout of a file, with the Services and templates that stand beside it."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except yaml.YAMLError as error:
        return [Finding("file", f"is no YAML: {str(error).splitlines()[0]}")]
    rollouts = [document for document in documents if document.get("kind") == names.KIND]
    if not rollouts:
        return [Finding("file", f"has no {names.KIND}")]
    return [finding for rollout in rollouts for finding in _rollout(rollout, documents)]


def _rollout(document: dict[str, Any], beside: list[dict[str, Any]]) -> Iterator[Finding]:
    name = str((document.get("metadata") or {}).get("name", ""))
    if document.get("apiVersion") != names.API_VERSION:
        yield Finding(name, f"apiVersion: is {names.API_VERSION}")
    if not name or len(name) > NAME_LENGTH:
        yield Finding(name, f"metadata.name: has 1 to {NAME_LENGTH} characters")
    try:
        spec = Spec.model_validate(document.get("spec") or {})
    except ValidationError as error:
        for fault in faults(error).split("; "):
            yield Finding(name, fault)
        return
    yield from _steps(name, spec)
    yield from _service(name, spec, beside)
    yield from _templates(name, spec, beside)


def _steps(name: str, spec: Spec) -> Iterator[Finding]:
    canary = spec.strategy.canary
    weights = [step.set_weight for step in canary.steps if step.set_weight is not None]
    judged = canary.analysis is not None or any(step.analysis for step in canary.steps)
    waits = any(step.pause is not None and step.pause.duration is None for step in canary.steps)
    if not weights:
        yield Finding(name, "no step gives the canary traffic: nothing is tried", grave=False)
    if weights != sorted(weights):
        yield Finding(name, "the weights do not rise", grave=False)
    if not judged and not waits:
        yield Finding(name, "no analysis and no pause for a person: every revision is promoted", grave=False)
    first = canary.steps[0]
    if first.analysis is not None and weights:
        yield Finding(name, "the first step analyses a canary that has no traffic yet", grave=False)


def _service(name: str, spec: Spec, beside: list[dict[str, Any]]) -> Iterator[Finding]:
    for document in beside:
        if document.get("kind") != "Service" or document["metadata"].get("name") != spec.workload_ref.name:
            continue
        if (document.get("spec") or {}).get("traffic"):
            message = "the Service's manifest has traffic; applying it again would undo the rollout's shares"
            yield Finding(name, message)


def _templates(name: str, spec: Spec, beside: list[dict[str, Any]]) -> Iterator[Finding]:
    """Only those in the same file can be looked at."""
    known = {
        document["metadata"]["name"]: document.get("spec") or {}
        for document in beside
        if document.get("kind") in {"AnalysisTemplate", "ClusterAnalysisTemplate"}
    }
    canary = spec.strategy.canary
    analyses: list[Analysis] = [step.analysis for step in canary.steps if step.analysis is not None]
    for analysis in [*analyses, *([canary.analysis] if canary.analysis else [])]:
        used = [ref.template_name for ref in analysis.templates]
        if not known or not all(template in known for template in used):
            continue
        declared = {arg["name"] for template in used for arg in known[template].get("args") or ()}
        for arg in analysis.args:
            if arg.name not in declared:
                yield Finding(name, f"no template of {', '.join(used)} has an argument {arg.name}")
