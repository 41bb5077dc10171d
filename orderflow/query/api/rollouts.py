"""Releases in progress, in JSON; only where query has a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify

from orderflow.query.release_impact import release_impact

if TYPE_CHECKING:
    from knrollout.cluster.view import RolloutSummary, RolloutView
    from orderflow.query.cached_value import CachedValue
    from orderflow.query.clients.rollouts import Rollouts
    from orderflow.query.release_impact import ReleaseImpact
    from orderflow.query.release_judgement import ReleaseJudge


def blueprint(
    rollouts: Rollouts, all_rollouts: CachedValue[list[RolloutSummary]], judge: ReleaseJudge
) -> Blueprint:
    routes = Blueprint("rollouts_api", "orderflow.query.api.rollouts")

    @routes.get("/api/rollouts")
    def listing() -> Response:
        return jsonify({"rollouts": [_row(rollout) for rollout in all_rollouts.get()]})

    @routes.get("/api/rollouts/<name>")
    def rollout(name: str) -> Response:
        view = rollouts.one(name)
        impact = release_impact(judge, view)
        return jsonify(_detail(view) | _judged(impact))

    return routes


def _judged(impact: ReleaseImpact | None) -> dict[str, Any]:
    if impact is None:
        return {"verdict": None, "harm": False, "sentence": "", "outcomes": [], "invariants": []}
    judgement = impact.judgement.as_dict()
    return {name: judgement[name] for name in ("verdict", "harm", "sentence", "outcomes", "invariants")}


def _row(rollout: RolloutSummary) -> dict[str, Any]:
    return {
        "name": rollout.name,
        "service": rollout.service,
        "step": rollout.step,
        "steps": rollout.steps,
        "status": rollout.status.model_dump(mode="json", by_alias=True, exclude_none=True),
        "href": f"/api/rollouts/{rollout.name}",
    }


def _detail(rollout: RolloutView) -> dict[str, Any]:
    return {
        "name": rollout.name,
        "service": rollout.service,
        "status": rollout.status.model_dump(mode="json", by_alias=True, exclude_none=True),
        "steps": rollout.steps,
        "analysed_beside": rollout.background_templates,
        "revisions": rollout.revisions,
        "asks": {verb: command.description for verb, command in rollout.commands.items()},
    }
