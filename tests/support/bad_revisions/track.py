"""The real track with one fault, which FAULT names: it `writes text` where notify needs a number, or `parks` every
event."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

from functions.track import endpoint
from orderflow import settings
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent

stage = endpoint
while hasattr(stage, "_endpoint"):
    stage = stage._endpoint
revision = settings.load(settings.TrackSettings).k_revision
publisher = stage._publisher
publish = publisher.publish


async def parks(_event: CloudEvent) -> str:
    raise PoisonError(Reason("bad_release", "data", "this revision can read nothing"))


async def publish_text(topic: str, events: Sequence[CloudEvent]) -> None:
    await publish(topic, list(map(_with_text, events)) if topic == topics.STATUS else events)


def _with_text(event: CloudEvent) -> CloudEvent:
    data = json.loads(event.data)
    changed = json.dumps(data | {"total": f"{data['total']} cents"}).encode()
    return replace(event, data=changed).with_extensions(trackedby=revision)


if os.environ["FAULT"] == "parks":
    stage._handle = parks
else:
    publisher.publish = publish_text


@functions_framework.http
async def track(request: Request) -> Response:
    return await endpoint.handle(request)
