"""One reconciliation of a rollout: read, decide, write. Nothing is kept in memory for the next one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from knrollout.api.rollout import InvalidSpec, parse_rollout, parse_status
from knrollout.cluster.reader import read_snapshot
from knrollout.decide.actions import DeleteRun, SetTraffic, StartRun, StopRun
from knrollout.decide.plan import Plan, make_plan, plan_for_invalid_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from knrollout.api.objects import Document
    from knrollout.cluster.port import Cluster
    from knrollout.decide.actions import Action


def reconcile(cluster: Cluster, namespace: str, name: str, now: datetime) -> Plan | None:
    """Returns the plan that was carried out, None if the rollout is gone.

    Raises ConflictError if an object has changed since it was read; the caller then reconciles again. Raises
    ClusterError.
    """
    document = cluster.rollout(namespace, name)
    if document is None or document["metadata"].get("deletionTimestamp"):
        return None
    plan = read_and_plan(cluster, document, now)
    for write in writes(cluster, document, plan):
        write()
    return plan


def read_and_plan(cluster: Cluster, document: Document, now: datetime) -> Plan:
    rollout = parse_rollout(document)
    if isinstance(rollout, InvalidSpec):
        return plan_for_invalid_spec(rollout, document["metadata"]["generation"])
    return make_plan(read_snapshot(cluster, rollout, now))


def writes(cluster: Cluster, document: Document, plan: Plan) -> list[Callable[[], None]]:
    """The requests of the plan in their order. If one fails, the next reconciliation makes up for the rest."""
    namespace = document["metadata"]["namespace"]
    actions = [partial(_carry_out, cluster, namespace, action) for action in plan.actions]
    if plan.status == parse_status(document):
        return list(actions)
    events = [partial(cluster.create_event, document, event) for event in plan.events]
    status = plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return [partial(cluster.write_status, document, status), *actions, *events]


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
