"""`python -m bench.flood [--seconds N]`: what a flood by one API key costs the orders of another one at intake.

One intake process gets orders of the key `steady` at an even pace. In turn, the key `flood` sends nothing, or sends
orders over as many connections as `containerConcurrency` lets in, each as soon as the last one is answered. It does so
first without a quota, then with one. The time of an order runs from the moment in which it is due to its 202.
Everything shares all cores, as on a small node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httptools
import uvloop

from bench import load
from bench.load import Responses
from bench.machine import ROOT, Cores, Measured, await_true, hardware
from bench.workload import SMALL_ORDER
from orderflow.adapters.http.api_keys import new_key, toml
from orderflow.adapters.http.quotas import Quota
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONNECTIONS: Final = 250
"""containerConcurrency of intake."""
QUOTA: Final = Quota(requests_per_second=50, burst=100, bytes_per_second=1_000_000, in_flight=100)
PARTITIONS: Final = 32
_WORKERS: Final = 20
"""Of the storefront whose orders are measured."""
_START_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 30.0
_WARM_UP_SECONDS: Final = 2.0
_BEGUN: Final = "begun\n"
"""What the flood's process prints when it begins."""
_BODY: Final = json.dumps(SMALL_ORDER).encode()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.flood is not None:
        port, key = options.flood
        print(json.dumps(uvloop.run(_flood(int(port), key, options.connections, options.seconds))))
        return 0
    print(hardware())
    print(
        f"{'quota':>6} {'flood':>6} {'orders':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}"
        "  answers to the flood, each second"
    )
    with (
        tempfile.TemporaryDirectory(prefix="orderflow-flood-") as name,
        EmbeddedKafka(Path(name) / "kafka") as kafka,
    ):
        create_order_topics(kafka.bootstrap, PARTITIONS)
        for quota in (None, QUOTA):
            with _intake(Path(name), kafka.bootstrap, quota) as (port, steady_key, flood_key):
                _steady(port, steady_key, options.pace, _WARM_UP_SECONDS)
                for flooded in (False, True):
                    answers: Counter[str] = Counter()
                    if flooded:
                        with _flooding(port, flood_key, options) as flood:
                            orders = _steady(port, steady_key, options.pace, options.seconds)
                            output, _ = flood.communicate(timeout=_ANSWER_SECONDS)
                        answers.update(json.loads(output))
                    else:
                        orders = _steady(port, steady_key, options.pace, options.seconds)
                    _print(orders, answers, options.seconds, quota=quota is not None, flooded=flooded)
    return 0


@contextmanager
def _intake(folder: Path, bootstrap: str, quota: Quota | None) -> Iterator[tuple[int, str, str]]:
    """Its port, and the keys `steady` and `flood`."""
    steady_key, steady = new_key("steady", ["intake"])
    flood_key, flood = new_key("flood", ["intake"], quota=quota)
    keys = folder / "keys.toml"
    keys.write_text(toml(steady) + toml(flood))
    environment = {
        "FUNCTION_SOURCE": "functions/intake.py",
        "FUNCTION_TARGET": "intake",
        "RULES_FILE": str(ROOT / "examples/rules.toml"),
        "API_KEYS_FILE": str(keys),
        "KAFKA_BOOTSTRAP": bootstrap,
    }
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "functions_framework.aio:create_asgi_app"]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    with Measured("intake", command, folder / "intake.log", Cores(None, None), environment) as process:
        await_true("intake listens", _START_SECONDS, lambda: _listens(port), process)
        yield port, steady_key, flood_key


def _listens(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 204
    except OSError:
        return False
    finally:
        connection.close()


def _steady(port: int, key: str, pace: float, seconds: float) -> Responses:
    """Sends an order each 1/pace seconds. As in a storefront with several workers, an order does not wait for the
    response to the one before it."""
    responses = Responses()
    begun = time.monotonic()
    mine = threading.local()

    def send(number: int, due: float) -> None:
        if not hasattr(mine, "connection"):
            mine.connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
        mine.connection.request("POST", "/orders", _BODY, _headers(key, f"{begun}-{number}"))
        answer = mine.connection.getresponse()
        answer.read()
        responses.latencies.append(time.monotonic() - due)
        responses.statuses[answer.status] += 1

    with ThreadPoolExecutor(_WORKERS) as workers:
        orders = []
        for number in range(int(pace * seconds)):
            due = begun + number / pace
            time.sleep(max(0.0, due - time.monotonic()))
            orders.append(workers.submit(send, number, due))
        for order in orders:
            order.result()
    return responses


@contextmanager
def _flooding(port: int, key: str, options: argparse.Namespace) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, so that the flood does not slow down the clock of the steady orders."""
    command = [sys.executable, "-m", "bench.flood", "--flood", str(port), key]
    command += ["--connections", str(options.connections), "--seconds", str(options.seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        if process.stdout.readline() != _BEGUN:
            raise RuntimeError("the flood did not begin")
        yield process


async def _flood(port: int, key: str, connections: int, seconds: float) -> dict[str, int]:
    """How often each status was answered."""
    statuses: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + seconds
    clients = [_FloodConnection(key, f"flood-{number}", deadline, statuses) for number in range(connections)]
    sys.stdout.write(_BEGUN)
    sys.stdout.flush()
    await asyncio.gather(*(loop.create_connection(lambda c=each: c, "127.0.0.1", port) for each in clients))
    await asyncio.gather(*(each.done.wait() for each in clients))
    return dict(statuses)


class _FloodConnection(asyncio.Protocol):
    """Sends the next order as soon as the last one is answered."""

    def __init__(self, key: str, name: str, deadline: float, statuses: Counter[str]) -> None:
        self._key = key
        self._name = name
        self._deadline = deadline
        self._statuses = statuses
        self._sent = 0
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self.done = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP's can write
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.done.set()

    def on_message_complete(self) -> None:
        self._statuses[str(self._parser.get_status_code())] += 1
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None  # noqa: S101 - it is connected
        if time.monotonic() > self._deadline:
            self._transport.close()
            return
        self._sent += 1
        headers = _headers(self._key, f"{self._name}-{self._sent}")
        self._transport.write(load.request("/orders", headers, _BODY))


def _headers(key: str, idempotency_key: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {key}",
        "Idempotency-Key": idempotency_key,
        "Content-Type": "application/json",
    }


def _print(orders: Responses, answers: Counter[str], seconds: float, *, quota: bool, flooded: bool) -> None:
    if set(orders.statuses) != {202}:
        raise RuntimeError(f"not every order of the other key was taken: {dict(orders.statuses)}")
    rates = ", ".join(f"{status}: {count / seconds:,.0f}" for status, count in sorted(answers.items()))
    print(
        f"{'yes' if quota else 'no':>6} {'yes' if flooded else 'no':>6} {len(orders.latencies):>7}"
        f" {orders.percentile_ms(0.5):>8.1f} {orders.percentile_ms(0.99):>8.1f}"
        f" {1000 * max(orders.latencies):>8.1f}  {rates}",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each of the four runs")
    parser.add_argument("--pace", type=float, default=20, help="orders a second of the other key")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of the flood")
    parser.add_argument("--flood", nargs=2, metavar=("PORT", "KEY"), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
