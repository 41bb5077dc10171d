"""Whether a stage still finishes requests. The platform restarts a process that does not."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from orderflow.adapters.http import problems

if TYPE_CHECKING:
    from starlette.requests import Request

    from orderflow.adapters.http.endpoint import Endpoint

log = logging.getLogger(__name__)

PATH: Final = "/livez"
PATIENCE: Final = 3
"""How many times its time limit a stage may go without finishing a request."""


class Liveness:
    """An endpoint that answers GET /livez: 204, or 503 where requests came and none was finished within its time limit
    for PATIENCE times that limit.

    A response counts as finished whatever its status: a stage whose database is away says so in time, and a restart
    would not bring the database back.
    """

    def __init__(self, endpoint: Endpoint, seconds: float) -> None:
        """seconds is the time limit of one request."""
        self._endpoint = endpoint
        self._seconds = seconds
        self._unfinished_since: float | None = None

    async def handle(self, request: Request) -> Response:
        if request.scope["path"] == PATH and request.method == "GET":
            return self._answer()
        begun = time.monotonic()
        if self._unfinished_since is None:
            self._unfinished_since = begun
        response = await self._endpoint.handle(request)
        if time.monotonic() - begun < self._seconds:
            self._unfinished_since = None
        return response

    def _answer(self) -> Response:
        since = self._unfinished_since
        seconds = 0.0 if since is None else time.monotonic() - since
        if seconds <= PATIENCE * self._seconds:
            return Response(status_code=204)
        log.error("no request was finished in time", extra={"seconds": round(seconds)})
        return problems.problem(503, "stuck", "no request was finished in time for too long")
