"""The real track with one fault, which FAULT names; `none` is a good release."""

import os
import sys
from dataclasses import replace
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the modules are in the same mounted folder
import functions_framework.aio as functions_framework
from delivery_report import report_delivery
from faults import FAULT, by_chance, change_data, change_published, is_one_of
from starlette.requests import Request
from starlette.responses import Response

from functions.track import endpoint
from orderflow.domain import lifecycle
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.track import decision

MOST_IN_FLIGHT = 2
in_flight: set[Request] = set()
decide = lifecycle.decide


def with_total_as_text(event: CloudEvent) -> CloudEvent:
    def change(data: dict[str, Any]) -> None:
        data["total"] = str(data["total"])

    return change_data(event, change)


def with_a_wrong_total(event: CloudEvent) -> CloudEvent:
    def change(data: dict[str, Any]) -> None:
        if is_one_of(event.subject, 0.02):
            data["total"] += 100

    return change_data(event, change)


def parked(*_: object) -> decision.Arrival:
    raise PoisonError(Reason("bad_release", "data", "this revision can read nothing"))


def captured_too_much(*arguments: Any, **options: Any) -> lifecycle.Decision:
    decided = decide(*arguments, **options)
    state = decided.state
    if decided.outcome is lifecycle.Outcome.APPLIED and state is not None and state.captured > 0:
        return replace(decided, state=replace(state, captured=state.captured + 1))
    return decided


if FAULT == "text_total":
    change_published(topics.STATUS, with_total_as_text)
elif FAULT == "wrong_total":
    change_published(topics.STATUS, with_a_wrong_total)
elif FAULT == "unannounced":
    change_published(topics.STATUS, lambda event: None if by_chance(0.1) else event)
elif FAULT == "parking":
    decision.read = parked
elif FAULT == "captured":
    lifecycle.decide = captured_too_much


@functions_framework.http
async def track(request: Request) -> Response:
    if request.method != "POST" or request.url.path != "/":
        return await endpoint.handle(request)
    report_delivery(request)
    if FAULT == "losing" and by_chance(0.016):
        await request.body()
        return Response("", 204)
    if FAULT == "overloaded" and len(in_flight) >= MOST_IN_FLIGHT:
        return Response("", 503)
    in_flight.add(request)
    try:
        return await endpoint.handle(request)
    finally:
        in_flight.remove(request)
