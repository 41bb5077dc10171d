"""What a member of a consumer group reads, and the settings of its Kafka consumer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Subscription:
    """`settings` are librdkafka's. They do not override the ones that KafkaSource fixes."""

    topics: list[str]
    group: str
    initial_offset: str
    ordered: bool
    max_poll_records: int
    settings: Mapping[str, Any]

    def consumer_settings(self) -> dict[str, Any]:
        """The data plane's own consumer settings, as far as librdkafka has them."""
        return {
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 3_000,
            "max.poll.interval.ms": 300_000,
            "max.partition.fetch.bytes": 65_536,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "allow.auto.create.topics": False,
            # Bounds what librdkafka buffers for one member, in addition to the partition queues.
            "queued.max.messages.kbytes": 16_384,
            **self.settings,
            "group.id": self.group,
            "auto.offset.reset": self.initial_offset,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
        }
