"""Parked -> PostgreSQL: what operators browse, mend and replay. Depends on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import wiring

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

stage = wiring.or_exit(wiring.shelve)


@functions_framework.http
async def shelve(request: Request) -> Response:
    return await stage.take(request)
