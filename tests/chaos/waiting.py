"""Waiting for what other processes bring about: polling with a deadline."""

import asyncio
from collections.abc import Callable

from tests.chaos.errors import FaultError

_LOOK_SECONDS = 0.05


async def until(condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
    """Raises FaultError, with what was waited for, where it does not come about in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise FaultError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(_LOOK_SECONDS)
