"""Whether a canary of query gives the answers that the stable revision gives.

Both are asked for the latest orders and for the lists. A member that only the canary's answers have is no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.query.clients.query_answers import AnswersCompared, QueryRevisions
from orderflow.query.shadow.report import MAX_REASONS, ShadowVerdict
from orderflow.query.store.filters import OrderFilter

if TYPE_CHECKING:
    from orderflow.query.store.reader import Reader

_MAX_ORDERS: Final = 50


class QueryAnswers:
    def __init__(self, reader: Reader, revision_url: str | None) -> None:
        """revision_url has {revision} for the name of a revision; None where query has no such address."""
        self._reader = reader
        self._url = revision_url

    def compare(self, canary: str, stable: str, sample: int, authorization: str) -> dict[str, object]:
        """sample: how many orders are asked for. authorization: the header with which both revisions are asked.

        The result is as that of another stage's comparison.
        """
        result = AnswersCompared(failure="SHADOW_URL is not set")
        if self._url is not None:
            orders = self._reader.orders(OrderFilter(limit=min(sample, _MAX_ORDERS)))
            revisions = QueryRevisions(self._url, canary, stable, authorization)
            result = revisions.compare([order.order_id for order in orders])
        verdict, sentence = _verdict(result, canary, stable)
        differences = [{"reason": path, "count": 1, "orders": []} for path in result.paths[:MAX_REASONS]]
        return {
            "verdict": verdict,
            "compared": result.compared,
            "differences": differences,
            "sentence": sentence,
        }


def _verdict(result: AnswersCompared, canary: str, stable: str) -> tuple[ShadowVerdict, str]:
    if result.paths:
        text = (
            f"{canary} answers {len(result.paths)} of {result.compared} requests otherwise than {stable}, "
            f"first {result.paths[0]}."
        )
        return ShadowVerdict.DIFFERENT, text
    if result.failure:
        return ShadowVerdict.UNKNOWN, f"The answers of {canary} are not compared: {result.failure}."
    return ShadowVerdict.FINE, f"{canary} and {stable} give the same {result.compared} answers."
