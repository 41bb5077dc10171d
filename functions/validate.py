"""Inbox -> events: does the shop accept the order? Depends on Kafka only.

The handler is orderflow/validate/handler.py.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import startup
from orderflow.adapters.http.event_endpoint import EventEndpoint
from orderflow.adapters.http.liveness import Liveness
from orderflow.domain.rules import Rules
from orderflow.messaging import topics
from orderflow.messaging.partition_hold import hold_back
from orderflow.settings import ValidateSettings, read_toml
from orderflow.validate import judgement
from orderflow.validate.handler import Validator

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint


def build() -> Endpoint:
    settings = startup.configure(ValidateSettings, "validate")
    rules = read_toml(Rules, settings.rules_file, "RULES_FILE")
    telemetry = startup.telemetry(settings, "validate")
    publisher = startup.kafka_publisher(settings, telemetry)
    validator = Validator(rules, publisher, settings.k_revision)
    handle = hold_back(validator.handle, settings.hold_from_partition)
    topic_ids = startup.topic_ids(settings, topics.INBOX)
    seconds = settings.event_seconds
    endpoint = EventEndpoint("validate", settings.k_revision, handle, publisher, topic_ids, seconds=seconds)
    judge = partial(judgement.judge, rules=rules)
    return Liveness(telemetry.endpoint(startup.judging(endpoint, judge, settings)), seconds)


endpoint = startup.or_exit(build)


@functions_framework.http
async def validate(request: Request) -> Response:
    return await endpoint.handle(request)
