"""The time limit for one event. It is shorter than KafkaSource's: a stage has given an event up before the event comes
again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from orderflow.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVENT_SECONDS: Final = 20.0
"""The usual limit."""


@asynccontextmanager
async def time_limit(seconds: float, subject: str) -> AsyncIterator[None]:
    """Cancels the block after so many seconds, and raises TransientError: `subject was not done within N s`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TransientError(f"{subject} was not done within {seconds:g} s") from None
