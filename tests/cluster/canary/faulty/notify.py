"""A notify that accepts every event with status 204 and sends no notification."""

import os
import sys

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the module is in the same mounted folder
from delivery_report import report_delivery


@functions_framework.http
async def notify(request: Request) -> Response:
    report_delivery(request)
    await request.body()
    return Response("", 204)
