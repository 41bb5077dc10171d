"""Topics of a Kafka cluster: created with the number of partitions that the caller names, or not at all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orderflow_sandbox.servers.errors import ServerFailedError, TopicMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin._metadata import ClusterMetadata

_POLL_SECONDS = 0.1


def create_topics(
    bootstrap: str,
    names: Iterable[str],
    *,
    partitions: int,
    replication: int = 1,
    config: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> None:
    """Creates the topics that do not exist yet, and returns when every partition has a leader.

    Raises TopicMismatchError, before it creates anything, where a topic exists with another partition count: the order
    of events across topics depends on the same count everywhere.
    """
    topics = list(dict.fromkeys(names))
    admin = admin_client(bootstrap)
    deadline = time.monotonic() + timeout
    try:
        _check_partitions(admin.list_topics(timeout=timeout), topics, partitions)
        existing = admin.list_topics(timeout=timeout).topics
        missing = [
            NewTopic(name, partitions, replication, config=dict(config or {}))
            for name in topics
            if name not in existing
        ]
        created: Mapping[str, Future[None]] = (
            admin.create_topics(missing, operation_timeout=timeout) if missing else {}
        )
        for name, outcome in created.items():
            _await_created(name, outcome)
        while not _have_leaders(metadata := admin.list_topics(timeout=timeout), topics, partitions):
            _check_partitions(metadata, topics, partitions)
            if time.monotonic() > deadline:
                raise ServerFailedError(f"topics {', '.join(topics)} have no leader after {timeout:g} s")
            time.sleep(_POLL_SECONDS)
    except KafkaException as error:
        raise ServerFailedError(f"cannot create topics on {bootstrap}: {error.args[0].str()}") from error


def _check_partitions(metadata: ClusterMetadata, names: list[str], partitions: int) -> None:
    for name in names:
        topic = metadata.topics.get(name)
        if topic is not None and topic.partitions and len(topic.partitions) != partitions:
            raise TopicMismatchError(
                f"topic {name} has {len(topic.partitions)} partitions, not {partitions}; "
                "a new count would break the order of events per order: "
                "ask for the old one, or start on empty data"
            )


def _await_created(name: str, outcome: Future[None]) -> None:
    try:
        outcome.result()
    except KafkaException as error:
        # Another process may have created the topic first. The next check compares its partition count.
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise ServerFailedError(f"cannot create topic {name}: {error.args[0].str()}") from error


def _have_leaders(metadata: ClusterMetadata, names: list[str], partitions: int) -> bool:
    topics = [metadata.topics.get(name) for name in names]
    return all(
        topic is not None
        and len(topic.partitions) == partitions
        and all(partition.leader >= 0 for partition in topic.partitions.values())
        for topic in topics
    )


def admin_client(bootstrap: str) -> AdminClient:
    """A client that reconnects quickly and does not log refused connections."""
    return AdminClient(
        {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        },
    )
