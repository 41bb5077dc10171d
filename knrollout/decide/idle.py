"""No release is on its way: all is well, or the last one was aborted. Tags are kept for a while, then taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.status import ALL
from knrollout.decide import traffic
from knrollout.decide.decision import Decision, said, want

if TYPE_CHECKING:
    from knrollout.api.objects import Service
    from knrollout.api.status import Split, Status
    from knrollout.decide.snapshot import View


def rest(view: View, service: Service, status: Status) -> Decision:
    assert status.wanted is not None  # noqa: S101 - a split is wanted since the Service was adopted
    status = want(status, _without_what_is_over(view, status, status.wanted))
    wake = status.retained_until if status.retained_until and status.retained_until > view.now else None
    if traffic.is_edited(service, status):
        message = "the Service's traffic was changed by hand and is left so; promote writes over it"
        return Decision(said(status, "Degraded", "TrafficEdited", message), wake=wake)
    if status.aborted is not None:
        return Decision(said(status, "Degraded", status.aborted.reason, status.aborted.message), wake=wake)
    if status.pending or not service.route_ready:
        message = service.route_message or "traffic is being moved"
        return Decision(said(status, "Progressing", "RouteNotReady", message), wake=wake)
    message = f"{status.stable_revision} serves everything"
    return Decision(said(status.but(weight=ALL), "Healthy", "Healthy", message), wake=wake)


def _without_what_is_over(view: View, status: Status, split: Split) -> Split:
    """A tag on a revision that is deleted or not ready would keep the Route from being ready."""
    over = status.retained_until is not None and view.now >= status.retained_until
    return split.but(
        over=False,
        canary=split.canary if view.ready(split.canary) and not over else None,
        previous=split.previous if view.ready(split.previous) and not over else None,
    )
