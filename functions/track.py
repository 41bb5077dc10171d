"""Events -> status: takes an order through its lifecycle, once per event. Depends on PostgreSQL and Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import wiring

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

stage = wiring.or_exit(wiring.track)


@functions_framework.http
async def track(request: Request) -> Response:
    return await stage.take(request)
