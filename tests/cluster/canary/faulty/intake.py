"""The real intake with one fault, which FAULT names."""

import os
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the modules are in the same mounted folder
import functions_framework.aio as functions_framework
from delivery_report import report_delivery
from faults import FAULT, by_chance, change_data, change_published
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.intake import endpoint
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent

if FAULT == "dearer":

    def dearer(event: CloudEvent) -> CloudEvent:
        def change(data: dict[str, Any]) -> None:
            if "total" in data and by_chance(0.3):
                data["total"] += 100

        return change_data(event, change)

    change_published(topics.INBOX, dearer)


@functions_framework.http
async def intake(request: Request) -> Response:
    if request.method == "POST":
        report_delivery(request)
        if FAULT == "forgetting" and by_chance(0.2):
            body = await request.body()
            return JSONResponse({"order_id": request.headers.get("ce-subject", ""), "bytes": len(body)}, 202)
        if FAULT == "refusing" and by_chance(0.15):
            return JSONResponse({"title": "a fault refuses this"}, 400)
    return await endpoint.handle(request)
