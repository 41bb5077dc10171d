"""A notify that takes every event, says that it is done, and does nothing."""

import os
import sys

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - mounted beside it
from meeting import met


@functions_framework.http
async def notify(request: Request) -> Response:
    met(request)
    await request.body()
    return Response("", 204)
