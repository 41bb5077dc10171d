"""The real shelve with one fault, which FAULT names."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the modules are in the same mounted folder
import functions_framework.aio as functions_framework
from delivery_report import report_delivery
from faults import FAULT, by_chance
from starlette.requests import Request
from starlette.responses import Response

from functions.shelve import endpoint


@functions_framework.http
async def shelve(request: Request) -> Response:
    if request.method == "POST":
        report_delivery(request)
        if FAULT == "forgetting" and by_chance(0.3):
            await request.body()
            return Response("", 204)
    return await endpoint.handle(request)
