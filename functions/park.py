"""The dead-letter sink of every KafkaSource -> parked: no dead letter disappears. Depends on Kafka only.

The handler is orderflow/park/handler.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import startup
from orderflow.adapters.http.liveness import Liveness
from orderflow.messaging import topics
from orderflow.messaging.deadline import EVENT_SECONDS
from orderflow.park.handler import DeadLetterSink
from orderflow.settings import ParkSettings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint


def build() -> Endpoint:
    settings = startup.configure(ParkSettings, "park")
    telemetry = startup.telemetry(settings, "park")
    publisher = startup.kafka_publisher(settings, telemetry)
    sink = DeadLetterSink(settings.k_revision, publisher, startup.topic_ids(settings, *topics.ALL))
    return Liveness(telemetry.endpoint(startup.authenticated(sink, settings)), EVENT_SECONDS)


endpoint = startup.or_exit(build)


@functions_framework.http
async def park(request: Request) -> Response:
    return await endpoint.handle(request)
