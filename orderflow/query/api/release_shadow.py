"""Whether the stable revision would judge a canary's events as the canary did.

For query itself, both are asked for the same answers.

GET /api/releases/<stage>/shadow?canary=<revision>&stable=<revision>&since=<time> compares a sample. With all=true it
lists every event that the two judge differently, in pages.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from flask import Blueprint, Response, abort, jsonify, request
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from orderflow.domain.orders import Frozen
from orderflow.query.release_judgement import Revision
from orderflow.query.shadow.comparison import STAGES, Position
from orderflow.query.shadow.stages import Release
from orderflow.query.store import filters
from orderflow.query.store.filters import Since

if TYPE_CHECKING:
    from orderflow.query.query_answers import QueryAnswers
    from orderflow.query.shadow.comparison import Shadow

QUERY: Final = "query"
MAX_SAMPLE: Final = 500
_MAX_TOKEN: Final = 16_384


def _position(token: object) -> object:
    if not isinstance(token, str):
        return token
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError  # noqa: TRY301 - every fault of a token is reported with one sentence
        left, compared = json.loads(
            base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        )
        ranges = {int(partition): (int(first), int(end)) for partition, first, end in left}
        if any(not 0 <= first < end for first, end in ranges.values()):
            raise ValueError  # noqa: TRY301 - the same
        return Position(ranges, int(compared))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise PydanticCustomError("page_invalid", "this is not a page of this list") from None


def _token(position: Position) -> str:
    left = [[partition, first, end] for partition, (first, end) in position.left.items()]
    text = json.dumps([left, position.compared], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class ShadowQuery(Frozen):
    """since: when the canary got its share. sample: how many of its events are compared at most. minimum: how many have
    to be compared for the verdict `fine`. all: list every event that is judged differently; page: the `next` of the
    page before."""

    canary: Revision
    stable: Revision
    since: Since
    sample: Annotated[int, Field(ge=1, le=MAX_SAMPLE)] = 50
    minimum: Annotated[int, Field(ge=1, le=MAX_SAMPLE)] = 10
    all: bool = False
    page: Annotated[
        Any, BeforeValidator(_position), WithJsonSchema({"type": "string", "maxLength": _MAX_TOKEN})
    ] = None


def blueprint(shadow: Shadow | None, answers: QueryAnswers) -> Blueprint:
    """shadow: None where query has no Kafka to read, as in some tests. answers: compares revisions of query."""
    routes = Blueprint("release_shadow", "orderflow.query.api.release_shadow")

    @routes.get("/api/releases/<stage>/shadow")
    def compare(stage: str) -> Response:
        if stage == QUERY:
            query = filters.read(ShadowQuery, request.args)
            key = request.headers.get("Authorization", "")
            return jsonify(answers.compare(query.canary, query.stable, query.sample, key))
        if stage not in STAGES or shadow is None:
            abort(404)
        query = filters.read(ShadowQuery, request.args)
        release = Release(stage, query.canary, query.stable, query.since)
        if not query.all:
            return jsonify(shadow.sample(release, query.sample, query.minimum).as_dict())
        page = shadow.page(release, query.page)
        body = page.report.as_dict() | {
            "orders": page.report.others,
            "next": _token(page.next) if page.next is not None else None,
        }
        return jsonify(body)

    return routes
