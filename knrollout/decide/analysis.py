"""Analysis runs of Argo Rollouts: what a run's end means, and what a new one is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from knrollout.api import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from knrollout.api.objects import Document, Run
    from knrollout.api.spec import Analysis, Arg


class Verdict(Enum):
    """HELD ones need a person: a run that says nothing never promotes."""

    WAITING = auto()
    PASSED = auto()
    FAILED = auto()
    ERROR = auto()
    INCONCLUSIVE = auto()
    NOTHING_MEASURED = auto()
    NOT_STARTED = auto()

    @property
    def held(self) -> bool:
        return self in {Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.NOTHING_MEASURED}


class NotPossibleError(Exception):
    """The analysis cannot be made from its templates and arguments; the text says why."""


@dataclass(frozen=True)
class Subject:
    """Whom a run judges, and whose it is."""

    rollout: str
    namespace: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    stable: str
    canary: str
    attempt: int


def judge(run: Run | None, now: datetime, patience: timedelta) -> Verdict:
    """A run that was terminated before it measured ends as Successful: it proves nothing."""
    if run is None:
        return Verdict.WAITING
    if run.phase == "Successful":
        return Verdict.PASSED if run.measured and not run.terminated else Verdict.NOTHING_MEASURED
    if not run.finished:
        idle = run.phase in {"", "Pending"} and now - run.created > patience
        return Verdict.NOT_STARTED if idle else Verdict.WAITING
    return {"Failed": Verdict.FAILED, "Error": Verdict.ERROR}.get(run.phase, Verdict.INCONCLUSIVE)


def manifest(
    name: str, analysis: Analysis, templates: Mapping[tuple[bool, str], Document], of: Subject
) -> Document:
    """The AnalysisRun. Raises NotPossibleError."""
    refs = [(ref.cluster_scope, ref.template_name) for ref in analysis.templates]
    parts = list(_flattened(refs, templates))
    spec: dict[str, Any] = {"metrics": _metrics(parts), "args": _args(analysis.args, parts, of)}
    for field in ("dryRun", "measurementRetention"):
        merged = [entry for part in parts for entry in part.get(field, ())]
        if merged:
            spec[field] = merged
    return {
        "apiVersion": f"{names.ARGO_GROUP}/{names.ARGO_VERSION}",
        "kind": "AnalysisRun",
        "metadata": {
            "name": name,
            "namespace": of.namespace,
            "labels": _labels(of),
            "ownerReferences": [_owner(of)],
        },
        "spec": spec,
    }


def references(analysis: Analysis) -> list[tuple[bool, str]]:
    return [(ref.cluster_scope, ref.template_name) for ref in analysis.templates]


def nested(spec: Document) -> list[tuple[bool, str]]:
    """Templates that a template takes in."""
    return [(bool(ref.get("clusterScope")), ref["templateName"]) for ref in spec.get("templates") or ()]


def _flattened(
    refs: Sequence[tuple[bool, str]], templates: Mapping[tuple[bool, str], Document]
) -> Iterator[Document]:
    queue, seen = list(refs), set()
    while queue:
        ref = queue.pop(0)
        if ref in seen:
            continue
        seen.add(ref)
        spec = templates.get(ref)
        if spec is None:
            kind = "ClusterAnalysisTemplate" if ref[0] else "AnalysisTemplate"
            raise NotPossibleError(f"there is no {kind} {ref[1]}")
        yield spec
        queue.extend(nested(spec))


def _metrics(parts: Sequence[Document]) -> list[Any]:
    metrics = [metric for part in parts for metric in part.get("metrics") or ()]
    named = [metric["name"] for metric in metrics]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise NotPossibleError(f"two templates have a metric {', '.join(twice)}")
    if not metrics:
        raise NotPossibleError("the templates have no metrics")
    return metrics


def _args(given: Sequence[Arg], parts: Sequence[Document], of: Subject) -> list[Any]:
    declared = _declared(parts)
    for arg in given:
        if arg.name not in declared:
            raise NotPossibleError(f"no template has an argument {arg.name}")
        declared[arg.name] = {"name": arg.name, "value": _value(arg, of)}
    empty = [name for name, arg in declared.items() if arg.get("value") is None and "valueFrom" not in arg]
    if empty:
        raise NotPossibleError(f"no value for the argument {', '.join(empty)}")
    return list(declared.values())


def _declared(parts: Sequence[Document]) -> dict[str, Any]:
    declared: dict[str, Any] = {}
    for arg in (arg for part in parts for arg in part.get("args") or ()):
        before = declared.get(arg["name"], {}).get("value")
        value = arg.get("value")
        if before is not None and value is not None and before != value:
            raise NotPossibleError(f"two templates have different values for {arg['name']}")
        if before is None:
            declared[arg["name"]] = arg
    return declared


def _value(arg: Arg, of: Subject) -> str:
    source = arg.value_from
    if source is None:
        return arg.value or ""
    if source.pod_template_hash_value is not None:
        return of.canary if source.pod_template_hash_value == "Latest" else of.stable
    assert source.field_ref is not None  # noqa: S101 - the spec has exactly one source
    path = source.field_ref.field_path.removeprefix("metadata.")
    field, _, key = path.partition("['")
    found = {
        "name": {"": of.rollout},
        "namespace": {"": of.namespace},
        "uid": {"": of.uid},
        "labels": of.labels,
        "annotations": of.annotations,
    }[field].get(key.removesuffix("']"))
    if found is None:
        raise NotPossibleError(f"the rollout has no {source.field_ref.field_path}")
    return found


def _labels(of: Subject) -> dict[str, str]:
    return {
        names.ROLLOUT_LABEL: of.rollout,
        names.REVISION_LABEL: of.canary,
        names.ATTEMPT_LABEL: str(of.attempt),
    }


def _owner(of: Subject) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": of.rollout,
        "uid": of.uid,
        "controller": True,
    }
