"""The command `orderflow`: the whole pipeline on one machine, for trying, testing and replaying."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import aiohttp
import typer
from rich.console import Console

from orderflow.kn_order.local_sandbox import STATE as DEFAULT_STATE
from orderflow.version import version_callback
from orderflow_sandbox import replay as replaying
from orderflow_sandbox import report
from orderflow_sandbox.address import Address, SandboxError, running
from orderflow_sandbox.progress import Monitor
from orderflow_sandbox.runner import (
    explained_errors,
    run_guarded,
    run_in_any_sandbox,
    run_in_sandbox,
    until_interrupted,
)
from orderflow_sandbox.sandbox import Options, Sandbox
from orderflow_sandbox.scenarios import order_scenarios
from orderflow_sandbox.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow_sandbox.messages import OrderScenario

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
out = Console(width=100, soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

PATIENCE_SECONDS: Final = 90.0

StateOption = Annotated[Path, typer.Option("--state", help="folder of the sandbox's data")]
PortOption = Annotated[
    int, typer.Option("--port", help="of intake; query and the mailbox get the next two", max=65533)
]
PartitionsOption = Annotated[int, typer.Option("--partitions", help="of every topic", min=1, max=512)]
OrdersOption = Annotated[int, typer.Option("--orders", help="number of orders to send", min=1)]
KeysOption = Annotated[
    Path | None,
    typer.Option("--keys", help="file of the API keys that intake and query require", exists=True),
]
SeedOption = Annotated[int, typer.Option("--seed", help="of the generated orders")]


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=version_callback("orderflow"), help="print the version"
        ),
    ] = False,
) -> None:
    """The module's docstring is the help."""


@app.command()
def up(
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
    keys: KeysOption = None,
) -> None:
    """Start the pipeline and keep it up until Ctrl-C. The next run goes on where this one stopped."""

    async def stay(sandbox: Sandbox) -> int:
        _print_addresses(sandbox.address)
        await until_interrupted()
        return 0

    run_in_sandbox(replace(_options(state, port, partitions), keys=keys), stay, err)


@app.command()
def run(
    orders: OrdersOption = 300,
    seed: SeedOption = 7,
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
) -> None:
    """Start the pipeline, send it generated orders, account for them, and stay up until Ctrl-C."""

    async def play_and_stay(sandbox: Sandbox) -> int:
        code = await _play(sandbox.address, sandbox.state, orders, seed)
        _print_addresses(sandbox.address)
        await until_interrupted()
        return code

    run_in_sandbox(_options(state, port, partitions), play_and_stay, err)


@app.command()
def demo(
    orders: OrdersOption = 300,
    seed: SeedOption = 7,
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
) -> None:
    """Send generated orders and account for them, in the sandbox that runs, or else in one for this time only."""
    run_in_any_sandbox(
        _options(state, port, partitions), lambda address, folder: _play(address, folder, orders, seed), err
    )


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV: order_id,status,purchased,approved,shipped,delivered")],
    speed: Annotated[
        float, typer.Option("--speed", help="seconds of the file per second; 0: as fast as possible", min=0)
    ] = 0,
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
) -> None:
    """Replay a shop's orders in their real sequence, with their real intervals, and account for them."""
    scenarios: list[OrderScenario] = []

    async def play(address: Address, folder: Path) -> int:
        async with Sender(address.intake, address.kafka) as sender:
            sender.log.scenarios.extend(scenarios)
            return await _account(
                address, folder, sender, lambda: sender.send_stream(replaying.by_time(scenarios, speed))
            )

    with explained_errors(err):
        scenarios = replaying.read(file)
    run_in_any_sandbox(_options(state, port, partitions), play, err)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="a Service manifest")], state: StateOption = DEFAULT_STATE
) -> None:
    """Apply a Service manifest to the running sandbox. A changed template makes a new revision."""
    _control(state, "POST", "/apply", _read(file), {"file": str(file)})


@app.command()
def traffic(
    service: str,
    shares: Annotated[list[str], typer.Argument(help="REVISION=PERCENT ..., summing to 100")],
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Split a Service's traffic between its revisions, as `kn service update --traffic` does."""
    pairs = [share.partition("=") for share in shares]
    malformed = [
        share
        for share, (name, _, percent) in zip(shares, pairs, strict=True)
        if not name or not percent.isdigit()
    ]
    if malformed:
        raise typer.BadParameter(f"{malformed[0]!r} is not REVISION=PERCENT")
    targets = [{"revisionName": name, "percent": int(percent)} for name, _, percent in pairs]
    _control(state, "POST", f"/traffic/{service}", json.dumps(targets).encode())


@app.command()
def status(state: StateOption = DEFAULT_STATE) -> None:
    """Show the running sandbox's Services, revisions and processes as JSON."""
    _control(state, "GET", "/status")


def main() -> None:
    """Exit codes: 0 everything is accounted for, 1 it is not, or an error, 2 wrong usage, 130 interrupted."""
    logging.basicConfig(level="WARNING", format="%(message)s", stream=sys.stderr)
    # librdkafka logs every broker that is starting or stopping. Whatever matters becomes an error of ours.
    for name in ("orderflow.adapters.kafka.producer", "orderflow_sandbox.sender"):
        logging.getLogger(name).setLevel("CRITICAL")
    app()


def _options(state: Path, port: int, partitions: int) -> Options:
    return Options(
        state=state,
        port=port,
        partitions=partitions,
        kafka=os.environ.get("KAFKA_BOOTSTRAP") or None,
        database=os.environ.get("DATABASE_URL") or None,
    )


async def _play(address: Address, state: Path, orders: int, seed: int) -> int:
    prefix = f"demo-{int(time.time()):x}"
    # A scenario takes up to a day or so, and all of its events are in the past.
    start = datetime.now(UTC) - timedelta(days=2)
    async with Sender(address.intake, address.kafka) as sender:
        return await _account(
            address,
            state,
            sender,
            lambda: sender.send_scenarios(order_scenarios(orders, seed, prefix, start)),
        )


async def _account(address: Address, state: Path, sender: Sender, send: Callable[[], Awaitable[None]]) -> int:
    monitor = Monitor(address, state)
    result = report.Account()

    def settled() -> bool:
        nonlocal result
        result = report.account(address.database, sender.log)
        return result.settled

    async def work() -> None:
        await send()
        await monitor.until_settled(settled, PATIENCE_SECONDS)

    start = time.monotonic()
    await monitor.show_while(work(), sender.log, err)
    seconds = time.monotonic() - start
    await asyncio.to_thread(settled)
    report.show(result, sender.log, seconds, out)
    return 0 if result.complete else 1


def _print_addresses(address: Address) -> None:
    out.print()
    out.print(f"  orders page  {address.query}/", highlight=False)
    out.print(f"  mailbox      {address.mailbox}/", highlight=False)
    out.print(f"  API          {address.intake}/orders  (POST; try /orders/dry-run)", highlight=False)
    out.print(f"  Kafka        {address.kafka}, topic orders.inbox.v1", highlight=False)
    out.print("\nCtrl-C stops it; the next run goes on from here.", highlight=False)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


def _control(
    state: Path, method: str, path: str, body: bytes = b"", query: dict[str, str] | None = None
) -> None:
    folder = state.absolute()

    async def request() -> int:
        address = running(folder)
        if address is None:
            raise SandboxError(f"no sandbox runs on {folder}; start one with `orderflow up`")
        async with (
            aiohttp.ClientSession() as session,
            Monitor(address, folder).request(session, method, path, body, query) as response,
        ):
            text = await response.text()
            if response.status >= 400:  # noqa: PLR2004 - HTTP's errors begin here
                raise SandboxError(text.strip())
            out.print(text.strip(), highlight=False, markup=False)
            return 0

    run_guarded(request, err)
