"""`python -m bench.cluster cold|steady|burst|all`, called by `make bench-cluster`: deploys all and measures it.

cold: from zero pods to the first answered event, per stage and way to start. steady: what one busy pod takes. burst:
orders from zero to notified, after what an idle deployment costs. The cluster, Kafka, PostgreSQL and the load share
this machine's cores.
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

_WHAT: Final = ("cold", "steady", "burst", "all")
_DEFAULT: Final = "framework's default"

out = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__.partition("\n\n")[0])
    parser.add_argument("what", choices=_WHAT)
    parser.add_argument("--rounds", type=int, default=10, help="starts of each stage and way")
    parser.add_argument("--stages", nargs="+", choices=tuple(CALLS), default=list(CALLS))
    parser.add_argument(
        "--ways", nargs="+", choices=[way.name for way in WAYS], help="cold, steady: to start a stage"
    )
    parser.add_argument(
        "--way",
        choices=[way.name for way in RUNNABLE],
        default=WAYS[0].name,
        help="burst: to start the stages",
    )
    parser.add_argument("--orders", type=int, default=10_000, help="burst: how many")
    parser.add_argument("--events", type=int, default=3_000, help="steady: of each round")
    parser.add_argument("--results", type=Path, help="folder for the figures as JSON, and the plot")
    given = parser.parse_args(arguments)
    if given.rounds < 2:
        parser.error("--rounds: a median wants 2 or more")
    print(hardware())
    try:
        with tempfile.TemporaryDirectory(prefix="orderflow-") as folder:
            options = Options.from_environment(Path(folder))
            with (
                Servers(options.state / "servers", options.host, options.partitions) as servers,
                Stack(options, servers) as stack,
            ):
                return _measure(stack, given)
    except ClusterError as error:
        print(f"bench-cluster: {error}", file=sys.stderr)
        return 1


def _measure(stack: Stack, given: argparse.Namespace) -> int:
    results: dict[str, Any] = {}
    lost = 0
    if given.what in {"cold", "all"}:
        found = _cold(stack, given)
        rows = [starts.as_dict() for starts in found]
        results["cold"] = [row | starts.each() for row, starts in zip(rows, found, strict=True)]
        out.print(_cold_table(rows))
    if given.what in {"steady", "all"}:
        results["steady"] = [pod.as_dict() for pod in _steady(stack, given)]
        out.print(_steady_table(results["steady"]))
    if given.what in {"burst", "all"}:
        restart(stack, next(way for way in WAYS if way.name == given.way))
        until_at_zero(stack)
        results["idle"] = _idle(stack)
        out.print(f"idle: {json.dumps(results['idle'])}", soft_wrap=True)
        seen = asyncio.run(burst(stack, given.orders))
        results["burst"] = seen.as_dict()
        lost = results["burst"]["missing"] + results["burst"]["unexpected"]
        _tell(seen)
        if given.results:
            given.results.mkdir(parents=True, exist_ok=True)
            draw(seen, given.results / "burst.svg")
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / "cluster.json").write_text(json.dumps(results, indent=2) + "\n")
    return 1 if lost else 0


def _cold(stack: Stack, given: argparse.Namespace) -> list[Starts]:
    with _undelivered(stack):
        cold = Cold(stack.kube, gateway("kourier-internal"), stack.key)
        return list(cold.measure(given.stages, _ways(given, WAYS), given.rounds))


def _steady(stack: Stack, given: argparse.Namespace) -> list[Pod]:
    usual = [way for way in RUNNABLE if way.name in {RUNNABLE[0].name, _DEFAULT}]
    ways = _ways(given, RUNNABLE) if given.ways else usual
    with _undelivered(stack):
        to = gateway("kourier-internal")
        return list(steady(stack.kube, to, stack.key, given.stages, ways, given.rounds, given.events))


def _ways(given: argparse.Namespace, of: Sequence[Way]) -> list[Way]:
    return [way for way in of if given.ways is None or way.name in given.ways]


@contextmanager
def _undelivered(stack: Stack) -> Iterator[None]:
    """Without delivery: what one stage publishes would wake the next one up."""
    if stack.kube.has(KAFKA_SOURCE):
        raise ClusterError(
            "one stage alone is measured where nothing delivers: on a cluster without KafkaSource"
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
    """Pods that run with nothing to do, and the memory of each in MiB, from the cluster's own metrics."""

    def usage() -> dict[str, str] | None:
        try:
            lines = stack.kube.kubectl("top", "pods", "--no-headers").splitlines()
        except ClusterError:
            return None
        return {line.split()[0]: line.split()[2] for line in lines} or None

    used = stack.kube.until(180, "the pods' memory", usage)
    running = [
        pod["metadata"]["name"]
        for pod in stack.kube.items("pods", "--field-selector=status.phase=Running")
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return {pod: used.get(pod, "not known yet") for pod in running}


def _tell(found: Burst) -> None:
    for name, value in found.as_dict().items():
        out.print(f"{name}: {json.dumps(value)}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
