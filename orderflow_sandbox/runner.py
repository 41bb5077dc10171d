"""Runs a command's work: in a sandbox of its own or in the one that runs, until its end or the first interrupt."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Final

import typer
import uvloop

from orderflow.errors import BadSettingsError, TransientError
from orderflow_sandbox.address import Address, SandboxError, running
from orderflow_sandbox.sandbox import Options, Sandbox
from orderflow_sandbox.sender import NotAcceptedError
from orderflow_sandbox.servers.errors import ServerFailedError
from orderflow_sandbox.serving import ManifestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from rich.console import Console

INTERRUPTED: Final = 130
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)


async def until_interrupted() -> None:
    """Returns at the first SIGINT or SIGTERM, for a command whose purpose is to stay up."""
    interrupted = asyncio.Event()
    for number in _INTERRUPTS:
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    await interrupted.wait()


def run_in_sandbox(options: Options, work: Callable[[Sandbox], Awaitable[int]], stderr: Console) -> None:
    """Starts a sandbox for the time of `work`."""

    async def run() -> int:
        with stderr.status("starting Kafka, PostgreSQL and the stages ..."):
            sandbox = await Sandbox(options).__aenter__()
        try:
            return await work(sandbox)
        finally:
            stderr.print("stopping ...", highlight=False)
            await asyncio.shield(sandbox.__aexit__(None, None, None))

    run_guarded(run, stderr)


def run_in_any_sandbox(
    options: Options, work: Callable[[Address, Path], Awaitable[int]], stderr: Console
) -> None:
    """Uses the sandbox that runs on the state folder, or else one for this time only."""
    state = options.state.absolute()
    address = running(state)
    if address is None:
        run_in_sandbox(options, lambda sandbox: work(sandbox.address, sandbox.state), stderr)
    else:
        run_guarded(lambda: work(address, state), stderr)


def run_guarded(work: Callable[[], Awaitable[int]], stderr: Console) -> None:
    """Runs `work` until its end or the first SIGINT or SIGTERM, and exits with its exit code, or with 130."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work())
        for number in _INTERRUPTS:
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        return INTERRUPTED

    with explained_errors(stderr):
        raise typer.Exit(uvloop.run(run()))


@contextlib.contextmanager
def explained_errors(stderr: Console) -> Iterator[None]:
    """An error that the user can correct ends the command with one sentence and exit code 1, without a stack trace."""
    try:
        yield
    except* (
        SandboxError,
        ServerFailedError,
        ManifestError,
        BadSettingsError,
        NotAcceptedError,
        TransientError,
    ) as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        stderr.print(f"orderflow: {first}", style="red", highlight=False)
        raise typer.Exit(1) from None
