"""The dead-letter sink of every KafkaSource -> parked: nothing that was given up on disappears. Kafka only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import wiring

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

stage = wiring.or_exit(wiring.park)


@functions_framework.http
async def park(request: Request) -> Response:
    return await stage.take(request)
