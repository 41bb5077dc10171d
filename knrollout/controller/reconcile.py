"""The shell around the pure function: read, decide, write. It keeps nothing from one time to the next."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from knrollout.cluster.reader import InvalidSpec, read, rollout_of
from knrollout.decide.actions import DeleteRun, SetTraffic, StartRun, StopRun
from knrollout.decide.decision import said
from knrollout.decide.events import notices
from knrollout.decide.plan import Plan, plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from knrollout.api.objects import Document
    from knrollout.api.status import Status
    from knrollout.cluster.port import Cluster
    from knrollout.decide.actions import Action


def reconcile(cluster: Cluster, namespace: str, name: str, now: datetime) -> Plan | None:
    """One round; None where the rollout is gone. Raises ConflictError if it is to be begun anew at once."""
    document = cluster.rollout(namespace, name)
    if document is None or document["metadata"].get("deletionTimestamp"):
        return None
    decided = decide(cluster, document, now)
    for write in writes(cluster, document, decided):
        write()
    return decided


def decide(cluster: Cluster, document: Document, now: datetime) -> Plan:
    rollout = rollout_of(document)
    if isinstance(rollout, InvalidSpec):
        seen = rollout.status.but(observed_generation=document["metadata"]["generation"])
        refused = said(seen, "Degraded", "InvalidSpec", rollout.faults)
        return Plan(refused, (), None, notices(rollout.status, refused, {}))
    return plan(read(cluster, rollout, now))


def writes(cluster: Cluster, document: Document, decided: Plan) -> list[Callable[[], None]]:
    """In this sequence; where one fails, the rest is left to the next round."""
    namespace = document["metadata"]["namespace"]
    carried = [partial(_carry_out, cluster, namespace, action) for action in decided.actions]
    before = _known(document)
    if decided.status == before:
        return list(carried)
    told = [partial(cluster.tell, document, notice) for notice in decided.notices]
    wire = decided.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return [partial(cluster.write_status, document, wire), *carried, *told]


def _known(document: Document) -> Status:
    return rollout_of(document).status


def _carry_out(cluster: Cluster, namespace: str, action: Action) -> None:
    match action:
        case SetTraffic():
            cluster.set_traffic(namespace, action)
        case StartRun(manifest):
            cluster.start_run(manifest)
        case StopRun(name):
            cluster.stop_run(namespace, name)
        case DeleteRun(name):
            cluster.delete_run(namespace, name)
