"""On a schedule or by hand: proves that nothing is missing, and makes good what is. PostgreSQL and Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import wiring
from orderflow.audit.handler import AuditDoor

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

stage = AuditDoor(wiring.or_exit(wiring.audit))


@functions_framework.http
async def audit(request: Request) -> Response:
    return await stage.take(request)
