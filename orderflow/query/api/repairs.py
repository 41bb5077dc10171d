"""Undoing what a revision did: POST /api/repairs sends its parked events again, GET /api/repairs/orders lists the
orders on which it left what no event can take back."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Final

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from orderflow.actions.service import Name
from orderflow.domain.orders import Frozen, OrderId, Text
from orderflow.errors import ConflictError, TransientError
from orderflow.query import masking, requests
from orderflow.query.release_judgement import Revision
from orderflow.query.requests import action_request, parse_body
from orderflow.query.store import filters

if TYPE_CHECKING:
    from orderflow.actions.repair import Repair, RevisionRepairs
    from orderflow.query.clients.rollouts import Rollouts
    from orderflow.query.store.reader import Reader


UNKNOWN: Final = "query does not know which revisions serve: make sure that {} serves nothing any more"


class RepairRequest(Frozen):
    """stage: only the events that this stage parked. after: only the orders behind this one."""

    revision: Revision
    stage: Name = ""
    after: OrderId | None = None
    reason: Text | None = None
    dry_run: bool = False


class MarkedOrdersQuery(Frozen):
    """The orders that the revision changed in the last hours. after: only the orders behind this one."""

    revision: Revision
    hours: Annotated[int, Field(ge=1, le=8760)] = 168
    after: OrderId | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


def blueprint(repairs: RevisionRepairs, rollouts: Rollouts | None, reader: Reader) -> Blueprint:
    routes = Blueprint("repairs", "orderflow.query.api.repairs")

    @routes.before_request
    def check() -> None:
        if request.method == "POST":
            requests.limit_body(requests.MAX_BODY_BYTES)
            requests.check_may("act", page=False)

    @routes.post("/api/repairs")
    def repair() -> tuple[Response, int]:
        body = parse_body(RepairRequest)
        obstacle, warnings = _serving(rollouts, body.revision)
        if obstacle and not body.dry_run:
            raise ConflictError(obstacle)
        done = repairs.repair(
            body.revision,
            action_request(body.reason),
            stage=body.stage,
            after=body.after,
            dry_run=body.dry_run,
        )
        warnings += [obstacle] if obstacle else []
        return _response(replace(done, warnings=warnings), 200 if body.dry_run else 202)

    @routes.get("/api/repairs/orders")
    def orders() -> Response:
        query = filters.read(MarkedOrdersQuery, request.args)
        rows = reader.marked_orders(query.revision, query.hours, query.after, query.limit + 1)
        page = rows[: query.limit]
        after = page[-1].order_id if len(rows) > query.limit else None
        return jsonify({"orders": [asdict(row) for row in page], "after": after})

    return routes


def _serving(rollouts: Rollouts | None, revision: str) -> tuple[str, list[str]]:
    """Why a repair would be undone at once, empty where it would not; and warnings where query cannot know."""
    if rollouts is None:
        return "", [UNKNOWN.format(revision)]
    try:
        rows = rollouts.all()
    except TransientError:
        return "", [UNKNOWN.format(revision)]
    for row in rows:
        if row.status.stable_revision == revision:
            text = f"{revision} is the stable revision of {row.name}: `kn rollout undo {row.name}` first"
            return text, []
        if row.status.canary_revision == revision and row.status.weight > 0:
            share = row.status.weight
            return f"{revision} still gets {share} % of {row.name}: `kn rollout abort {row.name}` first", []
    return "", []


def _response(repair: Repair, status: int) -> tuple[Response, int]:
    masked = replace(repair, taken=masking.masked_types(repair.taken))
    return jsonify(asdict(masked) | {"href": f"/api/actions/{repair.request}"}), status
