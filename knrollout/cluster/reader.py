"""One reading of the cluster, as a decision needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from knrollout.api import names
from knrollout.api.objects import Revision, Run, Service
from knrollout.api.spec import Spec
from knrollout.api.status import Status
from knrollout.decide.analysis import nested, references
from knrollout.decide.snapshot import Rollout, View

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from knrollout.api.objects import Document
    from knrollout.api.spec import Analysis
    from knrollout.cluster.port import Cluster


@dataclass(frozen=True)
class InvalidSpec:
    """The spec says what this controller cannot do. Admission should have refused it."""

    status: Status
    faults: str


def rollout_of(document: Document) -> Rollout | InvalidSpec:
    metadata, status = document["metadata"], status_of(document)
    try:
        spec = Spec.model_validate(document["spec"])
    except ValidationError as error:
        return InvalidSpec(status, faults(error))
    return Rollout(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        resource_version=metadata["resourceVersion"],
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        spec=spec,
        status=status,
    )


def status_of(document: Document) -> Status:
    """A status that cannot be read counts as lost: what serves now is adopted again."""
    try:
        return Status.model_validate(document.get("status") or {})
    except ValidationError:
        return Status()


def faults(error: ValidationError) -> str:
    """`spec.strategy.canary.steps.0: a step is exactly one of ...`, one after the other."""
    told = []
    for fault in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in ("spec", *fault["loc"]))
        words = "is not supported" if fault["type"] == "extra_forbidden" else fault["msg"]
        told.append(f"{where}: {words.removeprefix('Value error, ')}")
    return "; ".join(told)


def read(cluster: Cluster, rollout: Rollout, now: datetime) -> View:
    """The Service is read before its revisions: one that it names and that is not there was deleted."""
    namespace, service = rollout.namespace, rollout.spec.workload_ref.name
    found = cluster.service(namespace, service)
    revisions = map(Revision.read, cluster.revisions(namespace, service))
    owned = (run for run in cluster.runs(namespace, rollout.name) if _owned(run, rollout.uid))
    canary = rollout.canary
    analyses = [step.analysis for step in canary.steps if step.analysis]
    return View(
        rollout=rollout,
        service=Service.read(found) if found is not None else None,
        revisions={revision.name: revision for revision in revisions},
        runs={run.name: run for run in map(Run.read, owned)},
        templates=_templates(
            cluster, namespace, [*analyses, *([canary.analysis] if canary.analysis else [])]
        ),
        now=now,
        rival=_rival(rollout, cluster.rollouts(namespace)),
    )


def _owned(run: Document, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in run["metadata"].get("ownerReferences", ()))


def _templates(
    cluster: Cluster, namespace: str, analyses: Iterable[Analysis]
) -> dict[tuple[bool, str], Document]:
    queue = [ref for analysis in analyses for ref in references(analysis)]
    found: dict[tuple[bool, str], Document] = {}
    asked: set[tuple[bool, str]] = set()
    while queue:
        ref = queue.pop()
        if ref in asked:
            continue
        asked.add(ref)
        document = cluster.template(namespace, ref[1], cluster_wide=ref[0])
        if document is not None:
            found[ref] = document["spec"]
            queue.extend(nested(document["spec"]))
    return found


def _rival(rollout: Rollout, others: Iterable[Document]) -> str | None:
    """Of two rollouts of one Service the older one leads."""
    same = [
        (other["metadata"]["creationTimestamp"], other["metadata"]["uid"], other["metadata"]["name"])
        for other in others
        if other["spec"].get("workloadRef", {}).get("name") == rollout.spec.workload_ref.name
    ]
    first = min(same, default=None)
    return first[2] if first is not None and first[1] != rollout.uid else None


def service_name(document: Document) -> str | None:
    name = document["spec"].get("workloadRef", {}).get("name")
    return name if isinstance(name, str) else None


def revision_owner(document: Document) -> str | None:
    """The Service of a Revision: its Configuration has the same name."""
    name = document["metadata"].get("labels", {}).get(names.CONFIGURATION_LABEL)
    return name if isinstance(name, str) else None
