"""The stories that are told, without end, from a seed."""

from collections.abc import Iterator
from datetime import UTC, datetime

from orderflow_sandbox.scenarios import Story, stories

_ENDLESS = 10**9


def tales(seed: int, prefix: str, kinds: frozenset[str]) -> Iterator[Story]:
    """Order ids begin with the prefix."""
    start = datetime(2026, 11, 23, 8, tzinfo=UTC)
    return (story for story in stories(_ENDLESS, seed, prefix, start) if story.name in kinds)
