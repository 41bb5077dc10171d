"""Telemetry that records nothing. It does not import OpenTelemetry: that adds most of a second to a cold start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow.adapters.http.endpoint import Endpoint
    from orderflow.messaging.publisher import Publisher


class NoopTelemetry:
    """Has the same methods as orderflow.adapters.telemetry.traces.Telemetry; each returns its argument unchanged."""

    def endpoint(self, endpoint: Endpoint, *_routes: str) -> Endpoint:
        return endpoint

    def publisher(self, publisher: Publisher) -> Publisher:
        return publisher
