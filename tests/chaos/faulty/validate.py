"""The real validate, whose process can be made to die around its publishing."""

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

from functions.validate import endpoint
from orderflow.messaging import topics
from tests.chaos.faulty import points

publisher = points.innermost(endpoint)._publisher
publisher.publish = points.around(
    publisher.publish,
    before="before publish",
    after="after publish",
    when=lambda topic, _: topic == topics.EVENTS,
)


@functions_framework.http
async def validate(request: Request) -> Response:
    return await endpoint.handle(request)
