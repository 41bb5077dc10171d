"""Holds back the events of new partitions until the old partitions are empty (docs/how-to/add-partitions.md).

An order whose key moves to a new partition may still have earlier events in its old partition. An event that is held
back is answered 503, so KafkaSource sends it again and its partition keeps its sequence.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Final

from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.messaging.cloudevent import CloudEvent

    Handle = Callable[[CloudEvent], Awaitable[str]]

_MAX_DIGITS: Final = 9
"""Of a partition's number, which is 32 bits in Kafka."""


def hold_back(handle: Handle, first_partition: int | None) -> Handle:
    """Returns handle, which raises TransientError for events of first_partition and those after it. With None, no
    event is held back.

    An event that names no partition did not come through a KafkaSource and is not held back.
    """
    if first_partition is None:
        return handle

    @wraps(handle)
    async def handle_or_hold_back(event: CloudEvent) -> str:
        partition = event.extensions.get("knativekafkapartition", "")
        if partition.isdecimal() and len(partition) <= _MAX_DIGITS and int(partition) >= first_partition:
            raise TransientError("held back while partitions are added")
        return await handle(event)

    return handle_or_hold_back
