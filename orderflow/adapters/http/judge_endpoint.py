"""`/judge` beside the events of a stage: what the stage would make of an event, without any effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from orderflow.adapters.http import problems
from orderflow.adapters.http.body import TooLargeError
from orderflow.adapters.http.body import read as read_body
from orderflow.adapters.http.endpoint import OUTCOME, answers_every_error
from orderflow.errors import PoisonError
from orderflow.messaging.judgement import PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from starlette.requests import Request

    from orderflow.adapters.http.endpoint import Endpoint
    from orderflow.messaging.judgement import Judgement

    Judge: TypeAlias = "Callable[[Sequence[tuple[bytes, bytes]], bytes], Judgement]"

MAX_BYTES: Final = 4 * 1024 * 1024
"""An event with its order, in base64, is smaller."""


class JudgeEndpoint:
    """POST answers the judgement as JSON. GET answers 204: a release without this endpoint answers 405 to a GET, but
    takes a POST for an event."""

    def __init__(self, judge: Judge) -> None:
        """judge takes the request's headers and body, and has no effect. It raises PoisonError for a request that it
        cannot read."""
        self._judge = judge

    @answers_every_error("the event was not judged")
    async def handle(self, request: Request) -> Response:
        request.scope[OUTCOME] = "judged"
        if request.method == "GET":
            return Response(status_code=204)
        if request.method != "POST":
            title = "an event that is to be judged is POSTed here"
            return problems.problem(405, "method_not_allowed", title, headers={"Allow": "GET, POST"})
        try:
            judgement = self._judge(request.scope["headers"], await read_body(request, MAX_BYTES))
        except TooLargeError:
            return problems.problem(413, "too_large", f"the body has more than {MAX_BYTES} bytes")
        except PoisonError as error:
            return problems.problem(400, "bad_request", "the question is invalid", error.reasons)
        return Response(judgement.model_dump_json(exclude_none=True), media_type="application/json")


class Judging:
    """Passes requests for `/judge` to one endpoint and all others to another."""

    def __init__(self, judgements: Endpoint, events: Endpoint) -> None:
        self._judgements = judgements
        self._endpoint = events

    async def handle(self, request: Request) -> Response:
        endpoint = self._judgements if request.scope["path"] == PATH else self._endpoint
        return await endpoint.handle(request)
