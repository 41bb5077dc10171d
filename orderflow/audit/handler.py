"""The audit over HTTP: a POST is a run, its answer the report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response

from orderflow.adapters.http import problems
from orderflow.adapters.telemetry import logs
from orderflow.errors import UnavailableError

if TYPE_CHECKING:
    from starlette.requests import Request

    from orderflow.wiring import AuditRun

log = logging.getLogger(__name__)


class AuditDoor:
    """200 with the report, whatever it says; 409 where a run is under way, 503 where none could be made."""

    def __init__(self, run: AuditRun) -> None:
        self._run = run

    async def take(self, request: Request) -> Response:
        if request.method != "POST":
            headers = {"Allow": "POST"}
            return problems.problem(405, "method_not_allowed", "a run is POSTed for", headers=headers)
        try:
            report = await self._run()
        except UnavailableError as error:
            log.warning("not now", extra={"cause": str(error)})
            return problems.unavailable(str(error))
        except Exception as error:  # noqa: BLE001 - the framework would log its text and so the data
            log.error("unexpected", extra={"error": type(error).__name__, "where": logs.where(error)})  # noqa: TRY400
            return problems.problem(500, "internal_error", "the audit failed; the log says where")
        if report is None:
            return problems.problem(409, "audit_running", "another run of the audit is under way")
        return Response(to_json(report.as_dict()), media_type="application/json")
