"""The command `orderflow`: the whole pipeline on one machine, for trying, testing and replaying."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_args

import aiohttp
import typer
import uvloop
from rich.console import Console

from orderflow.errors import BadSettingsError, UnavailableError
from orderflow.notify.model import CustomerKind
from orderflow.version import version_callback
from orderflow_sandbox import replay as replaying
from orderflow_sandbox import report
from orderflow_sandbox.address import DEFAULT_STATE, Address, SandboxError, running
from orderflow_sandbox.progress import Watch
from orderflow_sandbox.sandbox import Options, Sandbox
from orderflow_sandbox.scenarios import stories
from orderflow_sandbox.sender import NotTakenError, Sender
from orderflow_sandbox.servers.errors import ServerFailedError
from orderflow_sandbox.serving import ManifestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from orderflow_sandbox.scenarios import Story

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
out = Console(width=100, soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

EMAILED: Final = frozenset(get_args(CustomerKind))
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS: Final = 90.0

StateOption = Annotated[Path, typer.Option("--state", help="folder that holds the sandbox's data")]
PortOption = Annotated[
    int, typer.Option("--port", help="of intake; query and mailbox get the next two", max=65533)
]
PartitionsOption = Annotated[int, typer.Option("--partitions", help="of every topic", min=1, max=512)]
OrdersOption = Annotated[int, typer.Option("--orders", help="how many orders the storefront sends", min=1)]
KeysOption = Annotated[
    Path | None, typer.Option("--keys", help="file of API keys that intake and query ask for", exists=True)
]
SeedOption = Annotated[int, typer.Option("--seed", help="of the storefront's stream")]


@app.callback()
def begin(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=version_callback("orderflow"), help="which release this is"
        ),
    ] = False,
) -> None:
    """Nothing of its own; the module's docstring is the help."""


@app.command()
def up(
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
    keys: KeysOption = None,
) -> None:
    """Start the pipeline and keep it up until Ctrl-C; a second run goes on where the first one stopped."""

    async def stay(sandbox: Sandbox) -> int:
        _say_where(sandbox.address)
        await _until_interrupted()
        return 0

    _run_in_sandbox(replace(_options(state, port, partitions), keys=keys), stay)


@app.command()
def run(
    orders: OrdersOption = 300,
    seed: SeedOption = 7,
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
) -> None:
    """Start the pipeline, send it a storefront's stream, account for it, and stay up until Ctrl-C."""

    async def play_and_stay(sandbox: Sandbox) -> int:
        code = await _play(sandbox.address, sandbox.state, orders, seed)
        _say_where(sandbox.address)
        await _until_interrupted()
        return code

    _run_in_sandbox(_options(state, port, partitions), play_and_stay)


@app.command()
def demo(
    orders: OrdersOption = 300,
    seed: SeedOption = 7,
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
) -> None:
    """Send a storefront's stream and account for it; uses the sandbox that runs, or one for this time only."""
    _on_any_sandbox(
        _options(state, port, partitions), lambda address, folder: _play(address, folder, orders, seed)
    )


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV: order_id,status,purchased,approved,shipped,delivered")],
    speed: Annotated[
        float, typer.Option("--speed", help="seconds of then per second of now; 0: as fast as it goes", min=0)
    ] = 0,
    state: StateOption = DEFAULT_STATE,
    port: PortOption = 8080,
    partitions: PartitionsOption = 32,
) -> None:
    """Replay a shop's orders with their real times and disorder, and account for them."""
    told: list[Story] = []

    async def play(address: Address, folder: Path) -> int:
        async with Sender(address.intake, address.kafka) as sender:
            sender.sent.stories.extend(told)
            return await _account(
                address, folder, sender, lambda: sender.follow(replaying.by_time(told, speed))
            )

    with _known_trouble():
        told = replaying.read(file)
    _on_any_sandbox(_options(state, port, partitions), play)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="a Service manifest")], state: StateOption = DEFAULT_STATE
) -> None:
    """Apply a Service manifest to the running sandbox; a changed template makes a new revision."""
    _control(state, "POST", "/apply", _read(file), {"file": str(file)})


@app.command()
def traffic(
    service: str,
    shares: Annotated[list[str], typer.Argument(help="REVISION=PERCENT ..., summing to 100")],
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Split a Service's traffic among its revisions, as `kn service update --traffic` does."""
    pairs = [share.partition("=") for share in shares]
    bad = [
        share
        for share, (name, _, percent) in zip(shares, pairs, strict=True)
        if not name or not percent.isdigit()
    ]
    if bad:
        raise typer.BadParameter(f"{bad[0]!r} is not REVISION=PERCENT")
    targets = [{"revisionName": name, "percent": int(percent)} for name, _, percent in pairs]
    _control(state, "POST", f"/traffic/{service}", json.dumps(targets).encode())


@app.command()
def status(state: StateOption = DEFAULT_STATE) -> None:
    """Show the running sandbox's Services, revisions and processes as JSON."""
    _control(state, "GET", "/status")


def main() -> None:
    """Exit codes: 0 all accounted for, 1 not so or it failed, 2 wrong usage, 130 interrupted."""
    logging.basicConfig(level="WARNING", format="%(message)s", stream=sys.stderr)
    # librdkafka tells of every broker that is just starting or stopping; what matters ends in an error of ours.
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
    # What the stories tell takes up to a day or so, and has happened.
    start = datetime.now(UTC) - timedelta(days=2)
    async with Sender(address.intake, address.kafka) as sender:
        return await _account(
            address, state, sender, lambda: sender.tell(stories(orders, seed, prefix, start))
        )


async def _account(address: Address, state: Path, sender: Sender, send: Callable[[], Awaitable[None]]) -> int:
    watch = Watch(address, state)
    result = report.Account()

    def settled() -> bool:
        nonlocal result
        result = report.account(address.database, sender.sent, EMAILED)
        return result.settled

    async def work() -> None:
        await send()
        await watch.until_settled(settled, PATIENCE_SECONDS)

    start = time.monotonic()
    await watch.show_while(work(), sender.sent, err)
    seconds = time.monotonic() - start
    await asyncio.to_thread(settled)
    report.show(result, sender.sent, seconds, out)
    return 0 if result.complete else 1


def _say_where(address: Address) -> None:
    out.print()
    out.print(f"  orders page  {address.query}/", highlight=False)
    out.print(f"  mailbox      {address.mailbox}/", highlight=False)
    out.print(f"  API          {address.intake}/orders  (POST; try /orders/dry-run)", highlight=False)
    out.print(f"  Kafka        {address.kafka}, topic orders.inbox.v1", highlight=False)
    out.print("\nCtrl-C stops it; the next run goes on from here.", highlight=False)


async def _until_interrupted() -> None:
    """Staying up was the wish, so that ending it is no failure."""
    interrupted = asyncio.Event()
    for number in _INTERRUPTS:
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    await interrupted.wait()


def _run_in_sandbox(options: Options, use: Callable[[Sandbox], Awaitable[int]]) -> None:
    async def work() -> int:
        with err.status("starting Kafka, PostgreSQL and the stages ..."):
            sandbox = await Sandbox(options).__aenter__()
        try:
            return await use(sandbox)
        finally:
            err.print("stopping ...", highlight=False)
            await asyncio.shield(sandbox.__aexit__(None, None, None))

    _guarded(work)


def _on_any_sandbox(options: Options, use: Callable[[Address, Path], Awaitable[int]]) -> None:
    state = options.state.absolute()
    address = running(state)
    if address is None:
        _run_in_sandbox(options, lambda sandbox: use(sandbox.address, sandbox.state))
    else:
        _guarded(lambda: use(address, state))


def _guarded(work: Callable[[], Awaitable[int]]) -> None:
    """Runs until the end or the first SIGINT or SIGTERM; known trouble ends in one sentence and exit code 1."""

    async def watched() -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work())
        for number in _INTERRUPTS:
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        return 130

    with _known_trouble():
        raise typer.Exit(uvloop.run(watched()))


@contextlib.contextmanager
def _known_trouble() -> Iterator[None]:
    """Trouble that a user can mend is told in one sentence; a stack trace is for faults of ours."""
    try:
        yield
    except* (
        SandboxError,
        ServerFailedError,
        ManifestError,
        BadSettingsError,
        NotTakenError,
        UnavailableError,
    ) as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        err.print(f"orderflow: {first}", style="red", highlight=False)
        raise typer.Exit(1) from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


def _control(
    state: Path, method: str, path: str, body: bytes = b"", query: dict[str, str] | None = None
) -> None:
    folder = state.absolute()

    async def ask() -> int:
        address = running(folder)
        if address is None:
            raise SandboxError(f"no sandbox runs on {folder}; start one with `orderflow up`")
        async with (
            aiohttp.ClientSession() as session,
            Watch(address, folder).request(session, method, path, body, query) as answer,
        ):
            text = await answer.text()
            if answer.status >= 400:  # noqa: PLR2004 - HTTP's errors begin here
                raise SandboxError(text.strip())
            out.print(text.strip(), highlight=False, markup=False)
            return 0

    _guarded(ask)
