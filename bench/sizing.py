"""Command line: `python -m bench.sizing [orders a second ...]`: what so many orders need, computed
from docs/reference/benchmarks.md.

The table in docs/reference/scaling.md is what this prints; a test holds the two together.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

RATES: Final = (10, 100, 1_000, 10_000)
EVENTS: Final = 4
"""Of one order: accepted, paid, shipped, delivered, as the benchmark has them."""
RECORD_BYTES: Final = 900
"""Of one record of the benchmark's with key and headers, on average over three topics, and a tenth for Kafka's own."""
TOPICS: Final = 3
"""An event is in the inbox, in events and in status."""
COPIES: Final = 3
RETENTION_DAYS: Final = 7
ROW_BYTES: Final = 2_200
"""Of one event of the benchmark's in PostgreSQL, all tables and indexes. The order itself is one row of them."""

CPU_US: Final = {
    # Stage -> its own CPU per event, in microseconds, one process at 64 in flight (docs/reference/benchmarks.md).
    "intake": 370,
    "validate": 360,
    "track": 353,
    "notify": 2_217,
}
DELIVERY_US: Final = 89
"""Per event and source, of the sandbox's delivery; the real data plane is a JVM and not in these figures."""
KAFKA_US: Final = 136 + 90 + 42
"""Of one broker without replicas, per event: what validate, track and notify cause together."""
POSTGRES_US: Final = 117 + 600
"""Per event: track and notify."""
LATENCY_SECONDS: Final = 0.025
"""Of track with 64 in flight: how long an event holds its partition."""
DISPATCHER: Final = 1_700
"""Events a second that one pod of the data plane hands on, at max.poll.records=500."""
HEADROOM: Final = 2.0
"""Peaks within the second, a node that is gone, CPUs that are shared. CPU and partitions are for twice the rate."""
AVERAGE: Final = 0.1
"""Of the peak, over days and nights: what is kept goes by it."""

NODE_VCPUS: Final = 4
KAFKA_NODES: Final = 3
OTHER_NODES: Final = 3
"""At least. Knative, Strimzi, KEDA, Prometheus and the canary controller are there without any order, too."""
PLATFORM_VCPUS: Final = 4.0

# US dollars a month, from DigitalOcean's published lists (docs/reference/scaling.md says which); look today's up.
PER_NODE: Final = 84.0
"""Four dedicated vCPUs, 8 GiB: c-4, as twice a c-2."""
PER_GIB: Final = 0.10
CONTROL_PLANE: Final = 40.0


@dataclass(frozen=True, slots=True)
class Need:
    """For one rate of orders a second. CPU in vCPU, storage in GiB."""

    orders: int
    events: int
    partitions: int
    dispatchers: int
    stages: float
    kafka: float
    postgres: float
    logs: float
    database: float

    @property
    def nodes(self) -> int:
        """Kafka's own, PostgreSQL's two (one stands by), and those of everything else."""
        kafka = max(KAFKA_NODES, math.ceil(self.kafka / NODE_VCPUS))
        postgres = 2 * math.ceil(self.postgres / NODE_VCPUS)
        others = max(OTHER_NODES, math.ceil((self.stages + PLATFORM_VCPUS) / NODE_VCPUS))
        return kafka + postgres + others

    @property
    def dollars(self) -> float:
        """A month, all of it running all the time. Both copies of the database are paid for."""
        return CONTROL_PLANE + self.nodes * PER_NODE + (self.logs + 2 * self.database) * PER_GIB


def need(orders: int) -> Need:
    """orders is the peak, a second."""
    events = orders * EVENTS
    peak = events * HEADROOM
    stages = sum(CPU_US.values()) + 3 * DELIVERY_US
    return Need(
        orders=orders,
        events=events,
        partitions=math.ceil(peak * LATENCY_SECONDS),
        dispatchers=TOPICS * math.ceil(peak / DISPATCHER),
        stages=peak * stages / 1e6,
        # Two more copies: fetched and written as often as the first.
        kafka=peak * KAFKA_US * COPIES / 1e6,
        postgres=peak * POSTGRES_US / 1e6,
        logs=_gib(events * AVERAGE * RECORD_BYTES * TOPICS * COPIES * 86_400 * RETENTION_DAYS),
        database=_gib(events * AVERAGE * ROW_BYTES * 86_400 * 30),
    )


def _gib(size: float) -> float:
    return size / 2**30


def table(rates: Sequence[int]) -> str:
    head = "| orders/s | events/s | partitions | dispatcher pods | vCPU: stages | Kafka | PostgreSQL "
    head += "| logs, 7 days, GiB | database, 30 days, GiB | nodes | $ a month |"
    lines = [head, "|" + "---:|" * 11]
    for each in map(need, rates):
        cells = [each.orders, each.events, each.partitions, each.dispatchers]
        told = [f"{number:,}" for number in cells]
        told += [_short(number) for number in (each.stages, each.kafka, each.postgres)]
        told += [_short(each.logs), _short(each.database), f"{each.nodes:,}", _short(each.dollars)]
        lines.append("| " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"


def _short(number: float) -> str:
    """Two digits that count: the inputs are no better."""
    if number >= 100:
        digits = int(math.log10(number)) - 1
        return f"{round(number, -digits):,.0f}"
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument(
        "rates", nargs="*", type=int, default=RATES, metavar="ORDERS", help="orders a second, at the peak"
    )
    print(table(parser.parse_args(arguments).rates), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
