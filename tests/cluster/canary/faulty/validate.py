"""The real validate with one fault, which FAULT names; `none` is a good release."""

import asyncio
import os
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the modules are in the same mounted folder
import functions_framework.aio as functions_framework
from delivery_report import report_delivery
from faults import FAULT, by_chance, change_data, change_published, is_one_of
from starlette.requests import Request
from starlette.responses import Response

from functions.validate import endpoint
from orderflow.domain.events import OrderAccepted, OrderRejected
from orderflow.domain.orders import Order
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate import handler

SLOW_SECONDS = 6.0
LEAK_BYTES = 4_000_000
leaked: list[bytes] = []
if FAULT == "crashing":
    raise SystemExit("this release does not start")

judge = Rules.judge


def accept(self: Rules, order: Order) -> object:
    return OrderAccepted.model_construct(order=order)


def reject_one_in_ten(self: Rules, order: Order) -> object:
    if is_one_of(order.customer.email, 0.1):
        reason = Reason("currency_not_sold", "currency", "the shop does not sell in this currency")
        return OrderRejected.model_construct(order=order, reasons=(reason,))
    return judge(self, order)


def parked(*_: object, **__: object) -> CloudEvent:
    raise PoisonError(Reason("bad_release", "data", "this revision can read nothing"))


def with_a_field(event: CloudEvent) -> CloudEvent:
    def change(data: dict[str, Any]) -> None:
        if "order" in data:
            data["order"]["loyalty"] = {"points": 7}

    return change_data(event, change)


def with_another_name(event: CloudEvent) -> CloudEvent:
    def change(data: dict[str, Any]) -> None:
        if "order" in data and by_chance(0.3):
            data["order"]["customer"]["name"] = data["order"]["customer"]["name"].upper()

    return change_data(event, change)


if FAULT == "accepting":
    Rules.judge = accept
elif FAULT == "rejecting":
    Rules.judge = reject_one_in_ten
elif FAULT == "extra_field":
    change_published(topics.EVENTS, with_a_field)
elif FAULT == "parking":
    handler.validate = parked
elif FAULT == "renaming":
    change_published(topics.EVENTS, with_another_name)


@functions_framework.http
async def validate(request: Request) -> Response:
    if request.method == "POST" and request.url.path == "/":
        report_delivery(request)
        if FAULT == "errors":
            return Response("", 500)
        if FAULT == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        if FAULT == "leaking":
            leaked.append(os.urandom(LEAK_BYTES))
    return await endpoint.handle(request)
