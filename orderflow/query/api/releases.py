"""Whether a stage's new revision treats orders worse: the endpoint of the analyses that run during a canary release.

GET /api/releases/<stage>?canary=<revision>&stable=<revision> takes any of the AnalysisSettings. With
weight=<percent>, the verdict includes whether the canary shows the activity of its share of the deliveries.
GET /api/releases/<stage>/audit compares what only the audit finds. The response's `verdict` is `worse`, `different`,
`fine` or `too_few`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from flask import Blueprint, Response, abort, jsonify, request
from pydantic import Field, StringConstraints

from orderflow.domain.release_analysis import AnalysisSettings, Interval, compare, overall, presence
from orderflow.query.store import filters
from orderflow.query.store.release_evidence import STAGES

if TYPE_CHECKING:
    from orderflow.domain.release_analysis import Presence
    from orderflow.query.store.reader import Reader
    from orderflow.query.store.statistics import Evidence

Revision = Annotated[str, StringConstraints(pattern=r"^[a-z][-a-z0-9]{0,62}$")]


class ReleaseQuery(AnalysisSettings):
    """hours: how far back the canary's first activity is searched.

    weight: the canary's share of the deliveries in percent; it must not have changed in the last `seconds`.
    """

    canary: Revision
    stable: Revision
    hours: Annotated[int, Field(ge=1, le=168)] = 24
    weight: Annotated[int, Field(ge=1, le=99)] | None = None
    seconds: Annotated[int, Field(ge=1, le=86_400)] = 60


class AuditQuery(AnalysisSettings):
    """The last minutes, while the canary ran, are compared with the hours before."""

    minutes: Annotated[int, Field(ge=1, le=1440)] = 30
    hours: Annotated[int, Field(ge=1, le=168)] = 24


def blueprint(reader: Reader) -> Blueprint:
    routes = Blueprint("releases", "orderflow.query.api.releases")

    @routes.get("/api/releases/<stage>")
    def release(stage: str) -> Response:
        if stage not in STAGES:
            abort(404)
        query = filters.read(ReleaseQuery, request.args)
        evidence = reader.release_outcomes(stage, query.canary, query.stable, query.hours)
        if query.weight is None:
            return _verdict(evidence, query)
        canary, stable = reader.release_activity(stage, query.canary, query.stable, query.seconds)
        activity = presence(canary, stable, query.weight, query, other_tests=len(evidence.outcomes))
        return _verdict(evidence, query, activity)

    @routes.get("/api/releases/<stage>/audit")
    def audit(stage: str) -> Response:
        if stage not in STAGES:
            abort(404)
        query = filters.read(AuditQuery, request.args)
        return _verdict(reader.missing_events(stage, query.minutes, query.hours), query)

    return routes


def _verdict(evidence: Evidence, settings: AnalysisSettings, activity: Presence | None = None) -> Response:
    activity_tests = [activity] if activity is not None else []
    outcomes = [(name, [Interval(canary, stable)]) for name, canary, stable in evidence.outcomes]
    comparisons = compare(outcomes, settings, other_tests=len(activity_tests))
    return jsonify(
        {
            "verdict": overall([*comparisons, *activity_tests]),
            "since": evidence.since,
            "outcomes": [asdict(comparison) for comparison in comparisons],
            "presence": asdict(activity) if activity is not None else None,
        }
    )
