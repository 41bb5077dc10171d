"""The Kafka topics. All have the same number of partitions and the order id as key."""

from typing import Final

INBOX: Final = "orders.inbox.v1"
EVENTS: Final = "orders.events.v1"
STATUS: Final = "orders.status.v1"
PARKED: Final = "orders.parked.v1"

ALL: Final = (INBOX, EVENTS, STATUS, PARKED)
