"""Status -> e-mail and webhooks, each once. Depends on PostgreSQL, SMTP and the shop's webhook endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import wiring

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

stage = wiring.or_exit(wiring.notify)


@functions_framework.http
async def notify(request: Request) -> Response:
    return await stage.take(request)
