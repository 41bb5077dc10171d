"""Command line: `python -m bench.sizing [orders per second ...]`: the machines and the storage for a rate of orders.

The inputs are the figures of docs/reference/benchmarks.md. docs/reference/scaling.md has the table that this prints; a
test compares the two.
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
"""Events per order, as in the benchmark: accepted, paid, shipped, delivered."""
RECORD_BYTES: Final = 900
"""One record of the benchmark with key and headers, on average over three topics, plus a tenth for Kafka's own data."""
TOPICS: Final = 3
"""An event has a record in each of the topics inbox, events and status."""
COPIES: Final = 3
RETENTION_DAYS: Final = 7
ROW_BYTES: Final = 2_200
"""One event of the benchmark in PostgreSQL, over all tables and indexes, including the event's share of the order."""

CPU_US: Final = {
    # By stage: its own CPU per event, in microseconds; one process, 64 in flight (docs/reference/benchmarks.md).
    "intake": 370,
    "validate": 360,
    "track": 353,
    "notify": 2_217,
}
DELIVERY_US: Final = 89
"""CPU of the sandbox's delivery per event and source. The real data plane is a JVM and not in these figures."""
KAFKA_US: Final = 136 + 90 + 42
"""CPU of one broker without replicas per event, for validate, track and notify together."""
POSTGRES_US: Final = 117 + 600
"""CPU of PostgreSQL per event, for track and notify."""
LATENCY_SECONDS: Final = 0.025
"""How long an event occupies its partition: track's latency with 64 in flight."""
DISPATCHER: Final = 1_700
"""Events per second that one pod of the data plane delivers, with max.poll.records=500."""
HEADROOM: Final = 2.0
"""CPU and partitions are for twice the rate, because of peaks within a second, a lost node and shared CPUs."""
AVERAGE: Final = 0.1
"""The average rate over days and nights as a share of the peak. Storage depends on the average."""

NODE_VCPUS: Final = 4
KAFKA_NODES: Final = 3
OTHER_NODES: Final = 3
"""The minimum: Knative, Strimzi, KEDA, Prometheus and the canary controller run without any order, too."""
PLATFORM_VCPUS: Final = 4.0

# US dollars per month, from DigitalOcean's price lists (docs/reference/scaling.md names them); check today's prices.
PER_NODE: Final = 84.0
"""c-4, four dedicated vCPUs and 8 GiB, at twice the price of a c-2."""
PER_GIB: Final = 0.10
CONTROL_PLANE: Final = 40.0


@dataclass(frozen=True, slots=True)
class Need:
    """The need of one rate of orders per second. CPU is in vCPUs, storage in GiB."""

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
        """Kafka's nodes, PostgreSQL's primary and standby, and the nodes of everything else."""
        kafka = max(KAFKA_NODES, math.ceil(self.kafka / NODE_VCPUS))
        postgres = 2 * math.ceil(self.postgres / NODE_VCPUS)
        others = max(OTHER_NODES, math.ceil((self.stages + PLATFORM_VCPUS) / NODE_VCPUS))
        return kafka + postgres + others

    @property
    def dollars(self) -> float:
        """US dollars per month, with every node running all the time and two copies of the database."""
        return CONTROL_PLANE + self.nodes * PER_NODE + (self.logs + 2 * self.database) * PER_GIB


def need(orders: int) -> Need:
    """orders is the peak rate, per second."""
    events = orders * EVENTS
    peak = events * HEADROOM
    stages = sum(CPU_US.values()) + 3 * DELIVERY_US
    return Need(
        orders=orders,
        events=events,
        partitions=math.ceil(peak * LATENCY_SECONDS),
        dispatchers=TOPICS * math.ceil(peak / DISPATCHER),
        stages=peak * stages / 1e6,
        # Each replica is fetched and written as often as the first copy.
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
        counts = [each.orders, each.events, each.partitions, each.dispatchers]
        cells = [f"{count:,}" for count in counts]
        cells += [_short(number) for number in (each.stages, each.kafka, each.postgres)]
        cells += [_short(each.logs), _short(each.database), f"{each.nodes:,}", _short(each.dollars)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _short(number: float) -> str:
    """Two significant digits, as the inputs are no more precise."""
    if number >= 100:
        digits = int(math.log10(number)) - 1
        return f"{round(number, -digits):,.0f}"
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument(
        "rates", nargs="*", type=int, default=RATES, metavar="ORDERS", help="orders per second, at the peak"
    )
    print(table(parser.parse_args(arguments).rates), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
