"""HTTP -> inbox: answers 202 once all in-sync replicas have the event. Depends on Kafka only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import wiring

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

stage = wiring.or_exit(wiring.intake)


@functions_framework.http
async def intake(request: Request) -> Response:
    return await stage.take(request)
