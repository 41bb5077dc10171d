"""Whether a stage's new revision treats orders as the stable one does: the endpoint of the analyses that run during a
canary release.

GET /api/releases/<stage>?canary=<revision>&stable=<revision>&since=<time> takes any of the arguments of ReleaseQuery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request

from orderflow.query.release_judgement import ReleaseQuery, check_stage
from orderflow.query.store import filters

if TYPE_CHECKING:
    from orderflow.query.release_judgement import ReleaseJudge


def blueprint(judge: ReleaseJudge) -> Blueprint:
    routes = Blueprint("releases", "orderflow.query.api.releases")

    @routes.get("/api/releases/<stage>")
    def release(stage: str) -> Response:
        check_stage(stage)
        query = filters.read(ReleaseQuery, request.args)
        return jsonify(judge.judge(stage, query).as_dict())

    return routes
