"""Whether a stage's new revision treats orders worse: what Argo's analysis asks query while a canary is out.

GET /api/releases/<stage>?canary=<revision>&stable=<revision>, and any of the Terms;
GET /api/releases/<stage>/audit for what only the audit finds. The answer's `verdict` is
`fine`, `worse` or `too_few`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from flask import Blueprint, Response, abort, jsonify, request
from pydantic import Field, StringConstraints

from orderflow.adapters.releases import STAGES
from orderflow.console import filters
from orderflow.domain.releases import Terms, compare, overall

if TYPE_CHECKING:
    from orderflow.adapters.reading import Reader
    from orderflow.console.records import Evidence

Revision = Annotated[str, StringConstraints(pattern=r"^[a-z][-a-z0-9]{0,62}$")]


class Question(Terms):
    """hours is how far back the canary's first trace is looked for."""

    canary: Revision
    stable: Revision
    hours: Annotated[int, Field(ge=1, le=168)] = 24


class AuditQuestion(Terms):
    """The last minutes, in which the canary was out, are held against the hours before."""

    minutes: Annotated[int, Field(ge=1, le=1440)] = 30
    hours: Annotated[int, Field(ge=1, le=168)] = 24


def blueprint(reader: Reader) -> Blueprint:
    routes = Blueprint("releases", "orderflow.console.releases")

    @routes.get("/api/releases/<stage>")
    def release(stage: str) -> Response:
        if stage not in STAGES:
            abort(404)
        asked = filters.read(Question, request.args)
        found = reader.release(stage, asked.canary, asked.stable, asked.hours)
        return _judged(found, asked)

    @routes.get("/api/releases/<stage>/audit")
    def audit(stage: str) -> Response:
        if stage not in STAGES:
            abort(404)
        asked = filters.read(AuditQuestion, request.args)
        return _judged(reader.audited(stage, asked.minutes, asked.hours), asked)

    return routes


def _judged(found: Evidence, terms: Terms) -> Response:
    compared = compare(found.outcomes, terms)
    outcomes = [asdict(each) for each in compared]
    return jsonify({"verdict": overall(compared), "since": found.since, "outcomes": outcomes})
