"""While partitions are added: events of the new ones wait until the old ones are empty (docs/how-to/add-partitions.md).

An order whose key moves to a new partition may have earlier events in its old one. Refused, the new ones come again,
and stay in sequence: their partition waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.envelope import Envelope

    Handle = Callable[[Envelope], Awaitable[str]]

_LONGEST: Final = 9
"""Digits of a partition's number: Kafka's are 32 bits."""


def held(handle: Handle, first: int | None) -> Handle:
    """handle, which from partition first on raises UnavailableError; None holds nothing back.

    An event that says no partition came through no KafkaSource, and is not held."""
    if first is None:
        return handle

    async def wait(event: Envelope) -> str:
        told = event.extensions.get("knativekafkapartition", "")
        if told.isdecimal() and len(told) <= _LONGEST and int(told) >= first:
            raise UnavailableError("held back while partitions are added")
        return await handle(event)

    return wait
