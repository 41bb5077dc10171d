"""Parked -> PostgreSQL, for operators; executes their actions. Depends on PostgreSQL and Kafka.

The handler is orderflow/shelve/handler.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import startup
from orderflow.adapters.http.event_endpoint import EventEndpoint
from orderflow.adapters.http.liveness import Liveness
from orderflow.messaging import topics
from orderflow.messaging.handled_places import records_places
from orderflow.messaging.partition_hold import hold_back
from orderflow.settings import ShelveSettings
from orderflow.shelve.action_store import ActionStore
from orderflow.shelve.handler import ActionHandler
from orderflow.shelve.parked_store import ParkedEventStore

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint


def build() -> Endpoint:
    settings = startup.configure(ShelveSettings, "shelve")
    telemetry = startup.telemetry(settings, "shelve")
    database = startup.database(settings)
    publisher = startup.kafka_publisher(settings, telemetry)
    places = startup.handled_places(database)
    parked_events = ParkedEventStore(database, revision=settings.k_revision)
    handler = ActionHandler(parked_events, ActionStore(database), publisher, places)
    handle = hold_back(records_places(handler.handle, places, "shelve"), settings.hold_from_partition)
    topic_ids = startup.topic_ids(settings, topics.PARKED)
    seconds = settings.event_seconds
    endpoint = EventEndpoint("shelve", settings.k_revision, handle, publisher, topic_ids, seconds=seconds)
    return Liveness(telemetry.endpoint(startup.authenticated(endpoint, settings)), seconds)


endpoint = startup.or_exit(build)


@functions_framework.http
async def shelve(request: Request) -> Response:
    return await endpoint.handle(request)
