"""An endless sequence of order scenarios, drawn from a seed."""

from collections.abc import Iterator
from datetime import UTC, datetime

from orderflow_sandbox.messages import OrderScenario
from orderflow_sandbox.scenarios import order_scenarios

_ENDLESS = 10**9


def endless_scenarios(seed: int, prefix: str, kinds: frozenset[str]) -> Iterator[OrderScenario]:
    """Order ids begin with the prefix."""
    start = datetime(2026, 11, 23, 8, tzinfo=UTC)
    return (scenario for scenario in order_scenarios(_ENDLESS, seed, prefix, start) if scenario.name in kinds)
