"""Whether a canary of query gives the answers that the stable revision gives.

GET /api/releases/query/shadow?canary=<revision>&stable=<revision> asks both for the latest orders and the lists. A
member that only the canary's answers have is no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from orderflow.domain.orders import Frozen
from orderflow.query.clients.query_answers import AnswersCompared, QueryRevisions
from orderflow.query.release_judgement import Revision
from orderflow.query.shadow.report import ShadowVerdict
from orderflow.query.store import filters
from orderflow.query.store.filters import OrderFilter, Since

if TYPE_CHECKING:
    from orderflow.query.store.reader import Reader


class QueryShadowQuery(Frozen):
    """sample: how many orders are asked for. since is not used: query keeps nothing of a release."""

    canary: Revision
    stable: Revision
    since: Since | None = None
    sample: Annotated[int, Field(ge=1, le=100)] = 20


def blueprint(reader: Reader, revision_url: str | None) -> Blueprint:
    """revision_url has {revision} for the name of a revision; None where query has no such address."""
    routes = Blueprint("query_shadow", "orderflow.query.api.query_shadow")

    @routes.get("/api/releases/query/shadow")
    def compare() -> Response:
        query = filters.read(QueryShadowQuery, request.args)
        result = AnswersCompared(failure="SHADOW_URL is not set")
        if revision_url is not None:
            orders = reader.orders(OrderFilter(limit=query.sample))
            revisions = QueryRevisions(
                revision_url, query.canary, query.stable, request.headers.get("Authorization", "")
            )
            result = revisions.compare([order.order_id for order in orders])
        return jsonify(_as_dict(result, query))

    return routes


def _as_dict(result: AnswersCompared, query: QueryShadowQuery) -> dict[str, object]:
    if result.paths:
        verdict = ShadowVerdict.DIFFERENT
        sentence = (
            f"{query.canary} answers {len(result.paths)} of {result.compared} requests otherwise than "
            f"{query.stable}, first {result.paths[0]}."
        )
    elif result.failure:
        verdict = ShadowVerdict.UNKNOWN
        sentence = f"The answers of {query.canary} are not compared: {result.failure}."
    else:
        verdict = ShadowVerdict.FINE
        sentence = f"{query.canary} and {query.stable} give the same {result.compared} answers."
    return {
        "verdict": verdict,
        "compared": result.compared,
        "differences": [{"reason": path, "count": 1, "orders": []} for path in result.paths[:20]],
        "sentence": sentence,
    }
