"""Telemetry that records nothing: OpenTelemetry is not imported, which would be most of a second of a cold start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow.adapters.http.endpoint import Endpoint
    from orderflow.messaging.publisher import Publisher


class NoopTelemetry:
    """Returns what it is given: orderflow.adapters.telemetry.traces.Telemetry says what would be recorded."""

    def endpoint(self, endpoint: Endpoint, *_routes: str) -> Endpoint:
        return endpoint

    def publisher(self, publisher: Publisher) -> Publisher:
        return publisher
