"""The Kafka topics. All have the same number of partitions and the order id as key."""

from __future__ import annotations

from typing import Final

INBOX: Final = "orders.inbox.v1"
EVENTS: Final = "orders.events.v1"
STATUS: Final = "orders.status.v1"
PARKED: Final = "orders.parked.v1"

ALL: Final = (INBOX, EVENTS, STATUS, PARKED)

MAX_BYTES: Final = 2 * 1024 * 1024
"""max.message.bytes of every topic but the inbox, which keeps the broker's 1 MiB. What a stage makes of a record (a
verdict with its reasons, a parked event with the record in base64) is larger than the record."""

INBOX_COMPRESSION: Final = "uncompressed"
"""compression.type of the inbox. The broker then unpacks what a producer has compressed, and refuses what is larger
than max.message.bytes. Else it compares the compressed size, and no reader could take what is in the log."""


def consumer_group(stage: str) -> str:
    """The consumer group of the stage's KafkaSource, as in the manifests."""
    return f"orderflow-{stage}"
