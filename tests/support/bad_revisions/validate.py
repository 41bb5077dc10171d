"""The real validate with one fault, which FAULT names: `adds a field` that track cannot read, or `parks` every
event."""

import json
import os
from dataclasses import replace

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

from functions.validate import endpoint
from orderflow import settings
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate import handler

stage = endpoint
while hasattr(stage, "_endpoint"):
    stage = stage._endpoint
config = settings.load(settings.ValidateSettings)
rules = settings.read_toml(Rules, config.rules_file, "RULES_FILE")


async def handle(event: CloudEvent) -> str:
    if os.environ["FAULT"] == "parks":
        raise PoisonError(Reason("bad_release", "data", "this revision can read nothing"))
    validated = handler.validate(event, rules, config.k_revision)
    data = json.loads(validated.data)
    if "order" in data:
        data["order"]["loyalty"] = "gold"
    await stage._publisher.publish(topics.EVENTS, [replace(validated, data=json.dumps(data).encode())])
    return ""


stage._handle = handle


@functions_framework.http
async def validate(request: Request) -> Response:
    return await endpoint.handle(request)
