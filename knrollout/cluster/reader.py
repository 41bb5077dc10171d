"""Reads the snapshot of the cluster that a decision needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.objects import AnalysisRun, ContainerEnd, Revision, Service
from knrollout.decide.analysis import nested_template_keys, template_keys
from knrollout.decide.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from knrollout.api.objects import Document
    from knrollout.api.rollout import Rollout
    from knrollout.cluster.port import Cluster
    from knrollout.decide.analysis import TemplateKey


def read_snapshot(cluster: Cluster, rollout: Rollout, now: datetime) -> Snapshot:
    """Reads the Service before its revisions. A revision that the Service names and that is missing was deleted.

    Pods are read while a release is in progress only.
    """
    namespace, name = rollout.namespace, rollout.spec.workload_ref.name
    service = cluster.service(namespace, name)
    revisions = [Revision.parse(document) for document in cluster.revisions(namespace, name)]
    runs = [
        AnalysisRun.parse(document)
        for document in cluster.runs(namespace, rollout.name)
        if _is_owned_by(rollout.uid, document)
    ]
    pods = cluster.pods(namespace, name) if rollout.status.active else []
    return Snapshot(
        rollout=rollout,
        service=Service.parse(service) if service is not None else None,
        revisions={revision.name: revision for revision in revisions},
        runs={run.name: run for run in runs},
        templates=_templates(cluster, rollout),
        ended=tuple(end for pod in pods for end in ContainerEnd.parse_pod(pod)),
        now=now,
        owner=_older_owner(rollout, cluster.rollouts(namespace)),
    )


def _is_owned_by(uid: str, run: Document) -> bool:
    return any(owner.get("uid") == uid for owner in run["metadata"].get("ownerReferences", ()))


def _templates(cluster: Cluster, rollout: Rollout) -> dict[TemplateKey, Document]:
    """Including the templates that they include."""
    queue = [key for analysis in rollout.canary.analyses() for key in template_keys(analysis)]
    templates: dict[TemplateKey, Document] = {}
    seen: set[TemplateKey] = set()
    while queue:
        key = queue.pop()
        if key in seen:
            continue
        seen.add(key)
        document = cluster.template(rollout.namespace, key.name, cluster_scope=key.cluster_scope)
        if document is not None:
            templates[key] = document["spec"]
            queue.extend(nested_template_keys(document["spec"]))
    return templates


def _older_owner(rollout: Rollout, rollouts: Iterable[Document]) -> str | None:
    """Of several rollouts of one Service the oldest owns it. None if that is this one."""
    candidates = [
        (document["metadata"]["creationTimestamp"], document["metadata"]["uid"], document["metadata"]["name"])
        for document in rollouts
        if document["spec"].get("workloadRef", {}).get("name") == rollout.spec.workload_ref.name
    ]
    if not candidates:
        return None
    _, uid, name = min(candidates)
    return name if uid != rollout.uid else None
