"""The manifest of an AnalysisRun, made from Argo Rollouts' analysis templates and a rollout's arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from knrollout.api import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knrollout.api.objects import Document
    from knrollout.api.spec import Analysis, Arg


_STATUS: Final = "status."


class NotPossibleError(Exception):
    """The AnalysisRun cannot be made from its templates and arguments; the text says why."""


class TemplateKey(NamedTuple):
    """Names an AnalysisTemplate, or a ClusterAnalysisTemplate if cluster_scope."""

    cluster_scope: bool
    name: str


@dataclass(frozen=True)
class Subject:
    """What a run analyses: the canary of an attempt; and the rollout that owns the run."""

    rollout: str
    namespace: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    stable: str
    canary: str
    attempt: int
    status: Mapping[str, str | None] = field(default_factory=dict)
    """The values of the status fields that an argument may name; None for one that has no value yet."""


def run_manifest(
    name: str, analysis: Analysis, templates: Mapping[TemplateKey, Document], subject: Subject
) -> Document:
    """templates are specs of templates. Raises NotPossibleError."""
    specs = list(_with_nested(template_keys(analysis), templates))
    spec: dict[str, Any] = {"metrics": _metrics(specs), "args": _args(analysis.args, specs, subject)}
    for name_of in ("dryRun", "measurementRetention"):
        entries = [entry for template in specs for entry in template.get(name_of, ())]
        if entries:
            spec[name_of] = entries
    return {
        "apiVersion": f"{names.ARGO_GROUP}/{names.ARGO_VERSION}",
        "kind": "AnalysisRun",
        "metadata": {
            "name": name,
            "namespace": subject.namespace,
            "labels": _labels(subject),
            "ownerReferences": [_owner_reference(subject)],
        },
        "spec": spec,
    }


def template_keys(analysis: Analysis) -> list[TemplateKey]:
    return [TemplateKey(ref.cluster_scope, ref.template_name) for ref in analysis.templates]


def nested_template_keys(template: Document) -> list[TemplateKey]:
    """The templates that a template includes."""
    refs = template.get("templates") or ()
    return [TemplateKey(bool(ref.get("clusterScope")), ref["templateName"]) for ref in refs]


def _with_nested(
    keys: Sequence[TemplateKey], templates: Mapping[TemplateKey, Document]
) -> Iterator[Document]:
    queue, seen = list(keys), set()
    while queue:
        key = queue.pop(0)
        if key in seen:
            continue
        seen.add(key)
        template = templates.get(key)
        if template is None:
            kind = "ClusterAnalysisTemplate" if key.cluster_scope else "AnalysisTemplate"
            raise NotPossibleError(f"there is no {kind} {key.name}")
        yield template
        queue.extend(nested_template_keys(template))


def _metrics(templates: Sequence[Document]) -> list[Any]:
    metrics = [metric for template in templates for metric in template.get("metrics") or ()]
    metric_names = [metric["name"] for metric in metrics]
    duplicates = sorted({name for name in metric_names if metric_names.count(name) > 1})
    if duplicates:
        raise NotPossibleError(f"two templates have a metric {', '.join(duplicates)}")
    if not metrics:
        raise NotPossibleError("the templates have no metrics")
    return metrics


def _args(values: Sequence[Arg], templates: Sequence[Document], subject: Subject) -> list[Any]:
    args = _declared_args(templates)
    for arg in values:
        if arg.name not in args:
            raise NotPossibleError(f"no template has an argument {arg.name}")
        args[arg.name] = {"name": arg.name, "value": _value(arg, subject)}
    empty = [name for name, arg in args.items() if arg.get("value") is None and "valueFrom" not in arg]
    if empty:
        raise NotPossibleError(f"no value for the argument {', '.join(empty)}")
    return list(args.values())


def _declared_args(templates: Sequence[Document]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for arg in (arg for template in templates for arg in template.get("args") or ()):
        earlier_value = args.get(arg["name"], {}).get("value")
        value = arg.get("value")
        if earlier_value is not None and value is not None and earlier_value != value:
            raise NotPossibleError(f"two templates have different values for {arg['name']}")
        if earlier_value is None:
            args[arg["name"]] = arg
    return args


def _value(arg: Arg, subject: Subject) -> str:
    source = arg.value_from
    if source is None:
        return arg.value or ""
    if source.pod_template_hash_value is not None:
        return subject.canary if source.pod_template_hash_value == "Latest" else subject.stable
    assert source.field_ref is not None  # noqa: S101 - the spec has exactly one source
    path = source.field_ref.field_path
    if path.startswith(_STATUS):
        value = subject.status.get(path.removeprefix(_STATUS))
        if value is None:
            raise NotPossibleError(f"the rollout has no {path} yet")
        return value
    return _metadata_value(path, subject)


def _metadata_value(field_path: str, subject: Subject) -> str:
    """`metadata.name`, or `metadata.labels['team']`."""
    field, _, key = field_path.removeprefix("metadata.").partition("['")
    value = {
        "name": {"": subject.rollout},
        "namespace": {"": subject.namespace},
        "uid": {"": subject.uid},
        "labels": subject.labels,
        "annotations": subject.annotations,
    }[field].get(key.removesuffix("']"))
    if value is None:
        raise NotPossibleError(f"the rollout has no {field_path}")
    return value


def _labels(subject: Subject) -> dict[str, str]:
    return {
        names.ROLLOUT_LABEL: subject.rollout,
        names.REVISION_LABEL: subject.canary,
        names.ATTEMPT_LABEL: str(subject.attempt),
    }


def _owner_reference(subject: Subject) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": subject.rollout,
        "uid": subject.uid,
        "controller": True,
    }
