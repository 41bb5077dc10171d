"""The real track, whose process can be made to die or to stop around its commit and its announcement."""

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

from functions.track import endpoint
from orderflow.messaging import topics
from tests.chaos.faulty import points

tracker = points.handler(endpoint)
store, publisher = tracker._store, tracker._publisher
store.read = points.around(store.read, after="after read")
store.write = points.around(store.write, before="before commit", after="after commit")
publisher.publish = points.around(
    publisher.publish,
    after="after publish",
    when=lambda topic, events: topic == topics.STATUS and bool(events),
)


@functions_framework.http
async def track(request: Request) -> Response:
    return await endpoint.handle(request)
