"""Checks rollouts' files without a cluster: what admission would refuse, and what is probably a mistake."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from knrollout.api import names
from knrollout.api.rollout import spec_errors
from knrollout.api.spec import Spec
from knrollout.decide.analysis import TemplateKey, nested_template_keys, template_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from knrollout.api.spec import Analysis

MAX_NAME_LENGTH: Final = 63
_STDIN: Final = "-"
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_TEMPLATE_KINDS: Final = {"AnalysisTemplate": False, "ClusterAnalysisTemplate": True}
"""By kind: whether it is of the cluster's scope."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """subject: the name of the rollout or of the file. is_error: the cluster refuses it or it cannot work; else a
    warning."""

    subject: str
    message: str
    is_error: bool = True


@dataclass(frozen=True)
class Manifests:
    """The objects of one file. fault: why it could not be read."""

    file: str
    documents: Sequence[Document] = ()
    fault: str = ""

    def of_kind(self, *kinds: str) -> list[Document]:
        return [document for document in self.documents if document.get("kind") in kinds]


@dataclass(frozen=True)
class _Surroundings:
    """What the files have beside the rollouts. templates: specs."""

    services: Sequence[Document]
    templates: Mapping[TemplateKey, Document] = field(default_factory=dict)


def manifests_below(path: Path) -> list[Path]:
    """The file itself, or the YAML and JSON files of a folder and of those in it."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())


def read(file: str) -> Manifests:
    """- is standard input."""
    try:
        text = sys.stdin.read() if file == _STDIN else Path(file).read_text("utf-8")
    except OSError as error:
        return Manifests(file, fault=f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return Manifests(file, fault="cannot be read: it is not UTF-8 text")
    return parse("standard input" if file == _STDIN else file, text)


def parse(file: str, text: str) -> Manifests:
    try:
        documents = list(_objects(yaml.safe_load_all(text)))
    except (yaml.YAMLError, RecursionError) as error:
        reason = (str(error).splitlines() or ["it is nested too deeply"])[0]
        return Manifests(file, fault=f"is no YAML: {reason}")
    return Manifests(file, documents)


def _objects(documents: Iterable[object]) -> Iterator[Document]:
    """With those that a List contains."""
    for document in documents:
        if not isinstance(document, dict):
            continue
        items = document.get("items")
        if document.get("kind") == "List" and isinstance(items, list):
            yield from _objects(items)
        else:
            yield document


def lint(files: Sequence[Manifests], beside: Sequence[Manifests] = ()) -> list[Finding]:
    """All KnativeRollouts of the files, with the Services of these and the analysis templates of all files."""
    findings = [Finding(each.file, each.fault) for each in (*files, *beside) if each.fault]
    surroundings = _Surroundings(
        [service for each in files for service in each.of_kind("Service")],
        {
            TemplateKey(_TEMPLATE_KINDS[document["kind"]], _name(document)): _mapping(document, "spec")
            for each in (*files, *beside)
            for document in each.of_kind(*_TEMPLATE_KINDS)
        },
    )
    for each in files:
        rollouts = each.of_kind(names.KIND)
        if not rollouts and not each.fault:
            findings.append(Finding(each.file, f"has no {names.KIND}"))
        findings += [
            finding for rollout in rollouts for finding in _lint_rollout(rollout, each.file, surroundings)
        ]
    return findings


def _name(document: Document) -> str:
    name = _mapping(document, "metadata").get("name")
    return "" if name is None else str(name)


def _mapping(document: Document, key: str) -> Document:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _lint_rollout(rollout: Document, file: str, surroundings: _Surroundings) -> Iterator[Finding]:
    name = _name(rollout)
    subject = name or f"{file}, a {names.KIND} without a name"
    if rollout.get("apiVersion") != names.API_VERSION:
        yield Finding(subject, f"apiVersion: must be {names.API_VERSION}")
    if not name or len(name) > MAX_NAME_LENGTH:
        yield Finding(subject, f"metadata.name: must have 1 to {MAX_NAME_LENGTH} characters")
    try:
        spec = Spec.model_validate(rollout.get("spec") or {})
    except ValidationError as error:
        for message in spec_errors(error):
            yield Finding(subject, message)
        return
    yield from _lint_steps(subject, spec)
    yield from _lint_service(subject, spec, surroundings.services)
    for message in _unchecked_templates(spec, surroundings.templates):
        yield Finding(subject, message, is_error=False)
    for message in _analysis_faults(spec, surroundings.templates):
        yield Finding(subject, message)


def _lint_steps(subject: str, spec: Spec) -> Iterator[Finding]:
    canary = spec.strategy.canary
    weights = [step.set_weight for step in canary.steps if step.set_weight is not None]
    waits = any(step.pause is not None and step.pause.duration is None for step in canary.steps)
    if not weights:
        yield Finding(subject, "no step gives the canary traffic: nothing is tried", is_error=False)
    if weights != sorted(weights):
        yield Finding(subject, "the weights do not rise", is_error=False)
    if not canary.analyses() and not waits:
        message = "no analysis and no pause for a person: every revision is promoted"
        yield Finding(subject, message, is_error=False)
    if canary.steps[0].analysis is not None and weights:
        message = "the first step analyses a canary that has no traffic yet"
        yield Finding(subject, message, is_error=False)


def _lint_service(subject: str, spec: Spec, services: Sequence[Document]) -> Iterator[Finding]:
    for service in services:
        if _name(service) == spec.workload_ref.name and _mapping(service, "spec").get("traffic"):
            message = "the Service's manifest has traffic; applying it again would undo the rollout's split"
            yield Finding(subject, message)


def _unchecked_templates(spec: Spec, templates: Mapping[TemplateKey, Document]) -> Iterator[str]:
    used = dict.fromkeys(
        key.name for analysis in spec.strategy.canary.analyses() for key in template_keys(analysis)
    )
    if used and not templates:
        yield f"the analyses are not checked: no file has {', '.join(used)}; add --templates PATH"


def _analysis_faults(spec: Spec, templates: Mapping[TemplateKey, Document]) -> Iterator[str]:
    """Each fault once. Nothing where no templates are given."""
    if not templates:
        return
    analyses = spec.strategy.canary.analyses()
    yield from dict.fromkeys(fault for analysis in analyses for fault in _faults_of(analysis, templates))


def _faults_of(analysis: Analysis, templates: Mapping[TemplateKey, Document]) -> Iterator[str]:
    """The arguments are checked where all templates are known."""
    keys = _with_nested(template_keys(analysis), templates)
    missing = [key for key in keys if key not in templates]
    for key in missing:
        kind = "ClusterAnalysisTemplate" if key.cluster_scope else "AnalysisTemplate"
        other = TemplateKey(not key.cluster_scope, key.name)
        hint = ", but one of the other scope: clusterScope" if other in templates else ""
        yield f"no file has the {kind} {key.name}{hint}"
    if missing:
        return
    used = ", ".join(ref.template_name for ref in analysis.templates)
    declared = [arg for key in keys for arg in _arguments(templates[key])]
    known = {str(arg.get("name")) for arg in declared}
    given = {arg.name for arg in analysis.args}
    with_value = {
        str(arg.get("name"))
        for arg in declared
        if arg.get("value") is not None or arg.get("valueFrom") is not None
    }
    for name in sorted(given - known):
        yield f"no template of {used} has an argument {name}"
    for name in sorted(known - given - with_value):
        yield f"{used}: the argument {name} has no value and no default"


def _arguments(template: Document) -> list[Document]:
    arguments = template.get("args")
    return [arg for arg in arguments if isinstance(arg, dict)] if isinstance(arguments, list) else []


def _with_nested(
    keys: Iterable[TemplateKey], templates: Mapping[TemplateKey, Document]
) -> dict[TemplateKey, None]:
    """With the templates that the templates include, those that are in no file as well."""
    found: dict[TemplateKey, None] = {}
    queue = list(keys)
    while queue:
        key = queue.pop(0)
        if key not in found:
            found[key] = None
            queue += _included(templates.get(key, {}))
    return found


def _included(template: Document) -> list[TemplateKey]:
    references = template.get("templates")
    known = references if isinstance(references, list) else []
    named = [each for each in known if isinstance(each, dict) and "templateName" in each]
    return nested_template_keys({"templates": named})
