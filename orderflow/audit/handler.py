"""The audit over HTTP: a POST starts a run, and the response is the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response

from orderflow.adapters.http import problems
from orderflow.adapters.http.endpoint import answers_every_error, posts_only

if TYPE_CHECKING:
    from starlette.requests import Request

    from orderflow.audit.run import AuditRun


class AuditEndpoint:
    """Answers 200 with the report, whatever its state; 409 while another run is under way; 503 where Kafka or the
    database is unavailable."""

    def __init__(self, run: AuditRun) -> None:
        self._run = run

    @answers_every_error("the audit failed; the log says where")
    async def handle(self, request: Request) -> Response:
        if request.method != "POST":
            return posts_only("a run of the audit is started with POST")
        report = await self._run()
        if report is None:
            return problems.problem(409, "audit_running", "another run of the audit is under way")
        return Response(to_json(report.as_dict()), media_type="application/json")
