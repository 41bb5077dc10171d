"""The real validate with one fault, which FAULT names: errors, slow, rejecting, crashing, or none."""

import asyncio
import hashlib
import os
import sys

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

from functions.validate import endpoint
from orderflow import settings
from orderflow.domain.rules import Rules
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate import handler

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the module is in the same mounted folder
from delivery_report import report_delivery

FAULT = os.environ["FAULT"]
SLOW_SECONDS = 6.0
if FAULT == "crashing":
    raise SystemExit("this release does not start")

stage = endpoint
while hasattr(stage, "_endpoint"):
    stage = stage._endpoint
config = settings.load(settings.ValidateSettings)
rules = settings.read_toml(Rules, config.rules_file, "RULES_FILE")
too_narrow_rules = Rules.model_validate({"currencies": ["JPY"]})


async def reject_one_in_ten(event: CloudEvent) -> None:
    """Applies rules that accept none of the shop's currencies to one order in ten."""
    is_rejected = hashlib.sha256(event.subject.encode()).digest()[0] % 10 == 0
    verdict = handler.validate(event, too_narrow_rules if is_rejected else rules, config.k_revision)
    await stage._publisher.publish(topics.EVENTS, [verdict])


if FAULT == "rejecting":
    stage._handle = reject_one_in_ten


@functions_framework.http
async def validate(request: Request) -> Response:
    report_delivery(request)
    if FAULT == "errors":
        return Response("", 500)
    if FAULT == "slow":
        await asyncio.sleep(SLOW_SECONDS)
    return await endpoint.handle(request)
