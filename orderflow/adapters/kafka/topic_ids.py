"""The ids of the topics, as Kafka gives them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from orderflow.adapters.kafka.producer import client_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.settings import KafkaSettings

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0
"""How long an id is used before Kafka is asked again."""
_REQUEST_SECONDS: Final = 2.0


class KafkaTopicIds:
    """Keeps the ids, and asks for them again in the background while they are used.

    The client is created by connect() or at first use, because a client that is created before a fork does not work
    after it.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str]) -> None:
        self._config = client_config(settings)
        self._topics = list(topics)
        self._admin: AdminClient | None = None
        self._ids: dict[str, str] = {}
        self._stale_at = 0.0
        self._refresh: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Asks for the ids before they are needed. Raises nothing where Kafka is away."""
        await self._start_refresh()

    async def id_of(self, topic: str) -> str:
        """The first call waits for Kafka, two seconds at most. Empty where Kafka does not know the topic or does not
        answer."""
        if time.monotonic() >= self._stale_at:
            refresh = self._start_refresh()
            if not self._ids:
                await refresh
        return self._ids.get(topic, "")

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._fetch())
        return self._refresh

    async def _fetch(self) -> None:
        try:
            self._ids |= await asyncio.to_thread(self._describe)
        except KafkaException as error:
            log.warning("the ids of the topics are not known", extra={"kafka_error": error.args[0].name()})
        finally:
            self._stale_at = time.monotonic() + FRESH_SECONDS

    def _describe(self) -> dict[str, str]:
        if self._admin is None:
            self._admin = AdminClient(self._config, logger=log)
        return topic_ids(self._admin, self._topics, _REQUEST_SECONDS)


def topic_ids(admin: AdminClient, topics: Sequence[str], timeout_seconds: float) -> dict[str, str]:
    """The id of each topic that Kafka knows. Raises KafkaException where Kafka does not answer."""
    futures = admin.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_seconds)
    ids: dict[str, str] = {}
    for topic, future in futures.items():
        try:
            ids[topic] = _as_kafka_writes_it(str(future.result().topic_id))
        except KafkaException as error:
            if error.args[0].name() not in {"UNKNOWN_TOPIC_OR_PART", "TOPIC_AUTHORIZATION_FAILED"}:
                raise
            log.warning("no id of a topic", extra={"topic": topic, "kafka_error": error.args[0].name()})
    return ids


def _as_kafka_writes_it(topic_id: str) -> str:
    """Kafka's own tools write an id in base64 for URLs, which is also what a place takes; librdkafka writes `+` and
    `/`."""
    return topic_id.replace("+", "-").replace("/", "_")
