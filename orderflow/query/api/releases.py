"""Whether a stage's new revision treats orders worse: what Argo's analysis asks query while a canary is out.

GET /api/releases/<stage>?canary=<revision>&stable=<revision>, and any of the Terms; with
weight=<percent> also whether the canary leaves the traces that its share of the deliveries should;
GET /api/releases/<stage>/audit for what only the audit finds. The answer's `verdict` is
`fine`, `worse` or `too_few`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from flask import Blueprint, Response, abort, jsonify, request
from pydantic import Field, StringConstraints

from orderflow.domain.release_analysis import Terms, compare, overall, presence
from orderflow.query.store import filters
from orderflow.query.store.release_evidence import STAGES

if TYPE_CHECKING:
    from orderflow.domain.release_analysis import Presence
    from orderflow.query.store.orders import Reader
    from orderflow.query.store.read_model import Evidence

Revision = Annotated[str, StringConstraints(pattern=r"^[a-z][-a-z0-9]{0,62}$")]


class Question(Terms):
    """hours is how far back the canary's first trace is looked for.

    weight is the canary's share of the deliveries in the last seconds, in percent: it must not have changed since.
    """

    canary: Revision
    stable: Revision
    hours: Annotated[int, Field(ge=1, le=168)] = 24
    weight: Annotated[int, Field(ge=1, le=99)] | None = None
    seconds: Annotated[int, Field(ge=1, le=86_400)] = 60


class AuditQuestion(Terms):
    """The last minutes, in which the canary was out, are held against the hours before."""

    minutes: Annotated[int, Field(ge=1, le=1440)] = 30
    hours: Annotated[int, Field(ge=1, le=168)] = 24


def blueprint(reader: Reader) -> Blueprint:
    routes = Blueprint("releases", "orderflow.query.api.releases")

    @routes.get("/api/releases/<stage>")
    def release(stage: str) -> Response:
        if stage not in STAGES:
            abort(404)
        asked = filters.read(Question, request.args)
        found = reader.release(stage, asked.canary, asked.stable, asked.hours)
        if asked.weight is None:
            return _judged(found, asked)
        canary, stable = reader.traces(stage, asked.canary, asked.stable, asked.seconds)
        left = presence(canary, stable, asked.weight, asked, beside=len(found.outcomes))
        return _judged(found, asked, left)

    @routes.get("/api/releases/<stage>/audit")
    def audit(stage: str) -> Response:
        if stage not in STAGES:
            abort(404)
        asked = filters.read(AuditQuestion, request.args)
        return _judged(reader.audited(stage, asked.minutes, asked.hours), asked)

    return routes


def _judged(found: Evidence, terms: Terms, left: Presence | None = None) -> Response:
    asked_beside = [left] if left is not None else []
    compared = compare(found.outcomes, terms, beside=len(asked_beside))
    return jsonify(
        {
            "verdict": overall([*compared, *asked_beside]),
            "since": found.since,
            "outcomes": [asdict(each) for each in compared],
            "presence": asdict(left) if left is not None else None,
        }
    )
