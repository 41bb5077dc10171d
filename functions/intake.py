"""HTTP -> inbox: answers 202 once all in-sync replicas have the event. Depends on Kafka only.

The handler is orderflow/intake/handler.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import startup
from orderflow.adapters.http.api_keys import ApiKeys
from orderflow.adapters.http.liveness import Liveness
from orderflow.domain.rules import Rules
from orderflow.intake.handler import Intake
from orderflow.messaging.deadline import EVENT_SECONDS
from orderflow.settings import IntakeSettings, read_toml

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint


def build() -> Endpoint:
    settings = startup.configure(IntakeSettings, "intake")
    rules = read_toml(Rules, settings.rules_file, "RULES_FILE")
    api_keys = ApiKeys.from_settings(settings, "intake", rules.authority.owner_names)
    telemetry = startup.telemetry(settings, "intake")
    publisher = startup.kafka_publisher(settings, telemetry)
    handler = Intake(publisher, rules, api_keys, settings.public_url, revision=settings.k_revision)
    return Liveness(telemetry.endpoint(handler, *handler.routes), EVENT_SECONDS)


endpoint = startup.or_exit(build)


@functions_framework.http
async def intake(request: Request) -> Response:
    return await endpoint.handle(request)
