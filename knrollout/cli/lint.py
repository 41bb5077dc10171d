"""Checks a rollout's file without a cluster: what admission would refuse, and what is probably a mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from knrollout.api import names
from knrollout.api.rollout import spec_errors
from knrollout.api.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NAME_LENGTH: Final = 63


@dataclass(frozen=True)
class Finding:
    """subject: the rollout's name, or `file`. is_error: the cluster refuses it or it cannot work; else a warning."""

    subject: str
    message: str
    is_error: bool = True


def lint(text: str) -> list[Finding]:
    """All KnativeRollouts of a file, each checked against the Services and analysis templates in the same file."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except yaml.YAMLError as error:
        return [Finding("file", f"is no YAML: {str(error).splitlines()[0]}")]
    rollouts = [document for document in documents if document.get("kind") == names.KIND]
    if not rollouts:
        return [Finding("file", f"has no {names.KIND}")]
    return [finding for rollout in rollouts for finding in _lint_rollout(rollout, documents)]


def _lint_rollout(rollout: dict[str, Any], documents: list[dict[str, Any]]) -> Iterator[Finding]:
    name = str((rollout.get("metadata") or {}).get("name", ""))
    if rollout.get("apiVersion") != names.API_VERSION:
        yield Finding(name, f"apiVersion: must be {names.API_VERSION}")
    if not name or len(name) > MAX_NAME_LENGTH:
        yield Finding(name, f"metadata.name: must have 1 to {MAX_NAME_LENGTH} characters")
    try:
        spec = Spec.model_validate(rollout.get("spec") or {})
    except ValidationError as error:
        for message in spec_errors(error):
            yield Finding(name, message)
        return
    yield from _lint_steps(name, spec)
    yield from _lint_service(name, spec, documents)
    yield from _lint_arguments(name, spec, documents)


def _lint_steps(name: str, spec: Spec) -> Iterator[Finding]:
    canary = spec.strategy.canary
    weights = [step.set_weight for step in canary.steps if step.set_weight is not None]
    waits = any(step.pause is not None and step.pause.duration is None for step in canary.steps)
    if not weights:
        yield Finding(name, "no step gives the canary traffic: nothing is tried", is_error=False)
    if weights != sorted(weights):
        yield Finding(name, "the weights do not rise", is_error=False)
    if not canary.analyses() and not waits:
        message = "no analysis and no pause for a person: every revision is promoted"
        yield Finding(name, message, is_error=False)
    if canary.steps[0].analysis is not None and weights:
        message = "the first step analyses a canary that has no traffic yet"
        yield Finding(name, message, is_error=False)


def _lint_service(name: str, spec: Spec, documents: list[dict[str, Any]]) -> Iterator[Finding]:
    for document in documents:
        if document.get("kind") != "Service" or document["metadata"].get("name") != spec.workload_ref.name:
            continue
        if (document.get("spec") or {}).get("traffic"):
            message = "the Service's manifest has traffic; applying it again would undo the rollout's split"
            yield Finding(name, message)


def _lint_arguments(name: str, spec: Spec, documents: list[dict[str, Any]]) -> Iterator[Finding]:
    """Analyses whose templates are not all in the file are skipped."""
    templates = {
        document["metadata"]["name"]: document.get("spec") or {}
        for document in documents
        if document.get("kind") in {"AnalysisTemplate", "ClusterAnalysisTemplate"}
    }
    for analysis in spec.strategy.canary.analyses():
        used = [ref.template_name for ref in analysis.templates]
        if not all(template in templates for template in used):
            continue
        declared = {arg["name"] for template in used for arg in templates[template].get("args") or ()}
        for arg in analysis.args:
            if arg.name not in declared:
                yield Finding(name, f"no template of {', '.join(used)} has an argument {arg.name}")
