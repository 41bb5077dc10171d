"""Events -> status: moves an order through its lifecycle, once per event. Depends on PostgreSQL and Kafka.

The handler is orderflow/track/handler.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework.aio as functions_framework

from orderflow import startup
from orderflow.adapters.http.event_endpoint import EventEndpoint
from orderflow.adapters.http.liveness import Liveness
from orderflow.domain.rules import Rules
from orderflow.messaging import topics
from orderflow.messaging.handled_places import records_places
from orderflow.messaging.partition_hold import hold_back
from orderflow.settings import TrackSettings, read_toml
from orderflow.track.handler import Tracker
from orderflow.track.judgement import judge
from orderflow.track.store import OrderStore

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from orderflow.adapters.http.endpoint import Endpoint


def build() -> Endpoint:
    settings = startup.configure(TrackSettings, "track")
    rules = read_toml(Rules, settings.rules_file, "RULES_FILE")
    telemetry = startup.telemetry(settings, "track")
    publisher = startup.kafka_publisher(settings, telemetry)
    database = startup.database(settings)
    places = startup.handled_places(database)
    store = OrderStore(database, revision=settings.k_revision, waiting=rules.waiting)
    tracker = Tracker(store, publisher, places, settings.k_revision, seconds=settings.event_seconds)
    handle = hold_back(records_places(tracker.handle, places, "track"), settings.hold_from_partition)
    topic_ids = startup.topic_ids(settings, topics.EVENTS)
    seconds = settings.event_seconds
    endpoint = EventEndpoint("track", settings.k_revision, handle, publisher, topic_ids, seconds=seconds)
    return Liveness(telemetry.endpoint(startup.judging(endpoint, judge, settings)), seconds)


endpoint = startup.or_exit(build)


@functions_framework.http
async def track(request: Request) -> Response:
    return await endpoint.handle(request)
