"""`python -m bench.cluster cold|steady|burst|all`, called by `make bench-cluster`: deploys and measures the pipeline.

cold: from zero pods to the first response, per stage and way to start. steady: the events per second and the CPU of one
busy pod. burst: the cost of the idle deployment, then many orders from zero to notified. The cluster, Kafka, PostgreSQL
and the load share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from bench.cluster.burst import Burst, burst, until_at_zero
from bench.cluster.cold import Cold, Starts
from bench.cluster.events import CALLS
from bench.cluster.plot import draw
from bench.cluster.steady import IN_FLIGHT, Pod, steady
from bench.cluster.ways import RUNNABLE, WAYS, Way, restart
from bench.machine import hardware
from tests.cluster.kube import ClusterError
from tests.cluster.servers import Servers
from tests.cluster.stack import KAFKA_SOURCE, Options, Stack, gateway

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MEASUREMENTS: Final = ("cold", "steady", "burst", "all")
_DEFAULT: Final = "framework's default"

out = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__.partition("\n\n")[0])
    parser.add_argument("what", choices=_MEASUREMENTS)
    parser.add_argument("--rounds", type=int, default=10, help="starts of each stage and way")
    parser.add_argument("--stages", nargs="+", choices=tuple(CALLS), default=list(CALLS))
    parser.add_argument(
        "--ways", nargs="+", choices=[way.name for way in WAYS], help="cold, steady: ways to start a stage"
    )
    parser.add_argument(
        "--way",
        choices=[way.name for way in RUNNABLE],
        default=WAYS[0].name,
        help="burst: way to start the stages",
    )
    parser.add_argument("--orders", type=int, default=10_000, help="burst: number of orders")
    parser.add_argument("--events", type=int, default=3_000, help="steady: events per round")
    parser.add_argument("--results", type=Path, help="folder for the figures as JSON, and the plot")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error("--rounds: a median needs 2 or more")
    print(hardware())
    try:
        with tempfile.TemporaryDirectory(prefix="orderflow-") as folder:
            cluster = Options.from_environment(Path(folder))
            with (
                Servers(cluster.state / "servers", cluster.host, cluster.partitions) as servers,
                Stack(cluster, servers) as stack,
            ):
                return _measure(stack, options)
    except ClusterError as error:
        print(f"bench-cluster: {error}", file=sys.stderr)
        return 1


def _measure(stack: Stack, options: argparse.Namespace) -> int:
    results: dict[str, Any] = {}
    faults = 0
    if options.what in {"cold", "all"}:
        all_starts = _cold(stack, options)
        rows = [starts.as_dict() for starts in all_starts]
        results["cold"] = [row | starts.each() for row, starts in zip(rows, all_starts, strict=True)]
        out.print(_cold_table(rows))
    if options.what in {"steady", "all"}:
        results["steady"] = [pod.as_dict() for pod in _steady(stack, options)]
        out.print(_steady_table(results["steady"]))
    if options.what in {"burst", "all"}:
        restart(stack, next(way for way in WAYS if way.name == options.way))
        until_at_zero(stack)
        results["idle"] = _idle(stack)
        out.print(f"idle: {json.dumps(results['idle'])}", soft_wrap=True)
        result = asyncio.run(burst(stack, options.orders))
        results["burst"] = result.as_dict()
        faults = results["burst"]["missing"] + results["burst"]["unexpected"]
        _print_burst(result)
        if options.results:
            options.results.mkdir(parents=True, exist_ok=True)
            draw(result, options.results / "burst.svg")
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "cluster.json").write_text(json.dumps(results, indent=2) + "\n")
    return 1 if faults else 0


def _cold(stack: Stack, options: argparse.Namespace) -> list[Starts]:
    with _without_delivery(stack):
        cold = Cold(stack.kube, gateway("kourier-internal"), stack.key)
        return list(cold.measure(options.stages, _ways(options, WAYS), options.rounds))


def _steady(stack: Stack, options: argparse.Namespace) -> list[Pod]:
    default_ways = [way for way in RUNNABLE if way.name in {RUNNABLE[0].name, _DEFAULT}]
    ways = _ways(options, RUNNABLE) if options.ways else default_ways
    with _without_delivery(stack):
        address = gateway("kourier-internal")
        return list(
            steady(stack.kube, address, stack.key, options.stages, ways, options.rounds, options.events)
        )


def _ways(options: argparse.Namespace, ways: Sequence[Way]) -> list[Way]:
    return [way for way in ways if options.ways is None or way.name in options.ways]


@contextmanager
def _without_delivery(stack: Stack) -> Iterator[None]:
    """Stops the delivery, so that the events that one stage publishes do not start the next stage."""
    if stack.kube.has(KAFKA_SOURCE):
        raise ClusterError(
            "one stage alone can only be measured without delivery: on a cluster without KafkaSource"
        )
    stack.kube.kubectl("scale", "deployment/delivery", "--replicas=0")
    try:
        yield
    finally:
        stack.kube.kubectl("scale", "deployment/delivery", "--replicas=1")


def _steady_table(rows: list[dict[str, Any]]) -> Table:
    title = f"one pod, {IN_FLIGHT} events in flight, medians"
    table = Table(box=None, title=title, title_justify="left")
    for column in ("stage", "way", "events", "events/s", "CPU ms an event"):
        table.add_column(column, justify="left" if column in {"stage", "way"} else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def _cold_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, title="from zero pods to the answer, seconds", title_justify="left")
    for column in ("stage", "way", "starts", "p50", "p90", "process began", "listened", "2nd event ms"):
        table.add_column(column, justify="left" if column in {"stage", "way"} else "right")
    for row in rows:
        table.add_row(*(str("-" if value is None else value) for value in row.values()))
    return table


def _idle(stack: Stack) -> dict[str, Any]:
    """The pods of the idle deployment, and the memory of each in MiB, from the cluster's own metrics."""

    def usage() -> dict[str, str] | None:
        try:
            lines = stack.kube.kubectl("top", "pods", "--no-headers").splitlines()
        except ClusterError:
            return None
        return {line.split()[0]: line.split()[2] for line in lines} or None

    memory = stack.kube.until(180, "the pods' memory", usage)
    running = [
        pod["metadata"]["name"]
        for pod in stack.kube.items("pods", "--field-selector=status.phase=Running")
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return {pod: memory.get(pod, "not known yet") for pod in running}


def _print_burst(result: Burst) -> None:
    for name, value in result.as_dict().items():
        out.print(f"{name}: {json.dumps(value)}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
