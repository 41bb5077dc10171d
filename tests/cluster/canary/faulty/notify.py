"""The real notify with one fault, which FAULT names; `none` is a good release."""

import os
import sys
from collections.abc import Awaitable, Callable

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the modules are in the same mounted folder
import functions_framework.aio as functions_framework
from delivery_report import report_delivery
from faults import FAULT, wrap
from starlette.requests import Request
from starlette.responses import Response

from functions.notify import endpoint
from orderflow.notify.email import EmailChannel
from orderflow.notify.handler import Channel
from orderflow.notify.model import Delivery, DeliveryResult, Handover, Notification
from orderflow.notify.webhooks import WebhookChannel

Send = Callable[[Channel, Notification, Handover], Awaitable[Delivery]]


async def twice(send: Send, channel: Channel, notification: Notification, handover: Handover) -> Delivery:
    await send(channel, notification, handover)
    return await send(channel, notification, handover)


async def pretend(_send: Send, *_: object) -> Delivery:
    return Delivery(DeliveryResult.SENT)


for channel in (EmailChannel, WebhookChannel):
    if FAULT == "twice":
        wrap(channel, "send", twice)
    elif FAULT == "pretending":
        wrap(channel, "send", pretend)


@functions_framework.http
async def notify(request: Request) -> Response:
    if request.method == "POST":
        report_delivery(request)
        if FAULT == "silent":
            await request.body()
            return Response("", 204)
    return await endpoint.handle(request)
