"""The real notify, whose process can be made to die between claiming, sending and recording."""

import functions_framework.aio as functions_framework
from starlette.requests import Request
from starlette.responses import Response

from functions.notify import endpoint
from tests.chaos.faulty import points

notifier = points.handler(endpoint)
claims = notifier._claims
claims.claim = points.around(claims.claim, after="after claim")
claims.confirm = points.around(claims.confirm, after="after record")
for channel in notifier._channels.values():
    channel.send = points.around(channel.send, after="after send")


@functions_framework.http
async def notify(request: Request) -> Response:
    return await endpoint.handle(request)
