"""What the queue-proxies saw of two revisions, through Prometheus: requests refused, and answers without a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.query.clients import refused_requests
from orderflow.query.clients.published_answers import PublishedAnswers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from orderflow.domain.release_analysis import Interval, Invariant


class QueueProxies:
    """Every method raises TransientError where Prometheus or Kafka does not answer."""

    def __init__(self, prometheus_url: str, kafka: Mapping[str, Any]) -> None:
        """kafka has librdkafka's properties for a client."""
        self._url = prometheus_url
        self._published = PublishedAnswers(prometheus_url, kafka)

    def invariants(self, stage: str, canary: str, since: datetime) -> list[Invariant]:
        return self._published.invariants(stage, canary, since)

    def outcomes(
        self, stage: str, canary: str, stable: str, since: datetime
    ) -> list[tuple[str, Sequence[Interval]]]:
        """Empty for a stage that takes no requests from outside."""
        if stage not in refused_requests.STAGES:
            return []
        return [("refused_requests", refused_requests.refused(self._url, canary, stable, since))]
