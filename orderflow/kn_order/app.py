"""The command kn-order, which kn finds as `kn order`: what operators see and do.

Exit codes: 0 done; 1 not done, refused, parked, or an audit that is not complete; 2 wrong usage or a field at
fault; 3 query or what it needs cannot be reached, try again; 4 no key, or one that may not; 130 interrupted.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any, Final

import typer

from orderflow.kn_order import audit_output, orders
from orderflow.kn_order.client import path_of
from orderflow.kn_order.output import Output
from orderflow.kn_order.parked import app as parked
from orderflow.kn_order.session import (
    EarlyOutputOption,
    KeyOption,
    OutputOption,
    ReasonOption,
    ServerOption,
    TimeoutOption,
    WaitOption,
    finish,
    remember,
    session,
)
from orderflow.version import version_callback

app = typer.Typer(
    name="kn-order",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__,
)
app.add_typer(parked, name="parked")

TIMEOUT: Final = 30.0
OrderArgument = Annotated[str, typer.Argument(metavar="ORDER", help="an order id")]


@app.callback()
def begin(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=version_callback("kn-order"), help="which release this is"
        ),
    ] = False,
    server: ServerOption = None,
    key_file: KeyOption = None,
    output: EarlyOutputOption = None,
) -> None:
    remember(context, server, key_file, output)


@app.command("list")
def list_orders(
    need: Annotated[str | None, typer.Option("--need", help="only what needs a hand for this reason")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="of each reason")] = 20,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """The orders that need a hand, the longest waiting first."""
    with session(server, key_file) as about:
        orders.show_needing(about, need, limit, output)


@app.command()
def status(
    order: OrderArgument,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Where an order stands, and what waits or is parked of it."""
    with session(server, key_file) as about:
        orders.show_status(about, about.client.get(path_of("orders", order)), output)


@app.command()
def history(
    order: OrderArgument,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """What happened to an order, from the first event to the last, operators' actions among them."""
    with session(server, key_file) as about:
        orders.show_history(about, about.client.get(path_of("orders", order)), output)


@app.command()
def hold(
    order: OrderArgument,
    reason: ReasonOption,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Hold an order for review."""
    _act(server, key_file, order, "hold", {"reason": reason}, output, wait=wait, timeout=timeout)


@app.command()
def release(
    order: OrderArgument,
    reason: ReasonOption,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Release a held order: it goes on from where it was, and what waited meanwhile follows."""
    _act(server, key_file, order, "release", {"reason": reason}, output, wait=wait, timeout=timeout)


@app.command()
def cancel(
    order: OrderArgument,
    reason: ReasonOption,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Cancel an order that has not been handed over."""
    _act(server, key_file, order, "cancel", {"reason": reason}, output, wait=wait, timeout=timeout)


@app.command()
def extend(
    order: OrderArgument,
    hours: Annotated[
        float, typer.Argument(metavar="HOURS", help="how many hours longer", min=0.01, max=8760)
    ],
    reason: Annotated[
        str | None, typer.Option("--reason", help="why; it stands in the order's history")
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Let the events that wait for an order wait longer before they are parked."""
    body = {"hours": hours} | ({"reason": reason} if reason else {})
    _act(server, key_file, order, "extend", body, output, wait=wait, timeout=timeout)


@app.command()
def audit(
    run: Annotated[bool, typer.Option("--run", help="run one now, instead of showing the last")] = False,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show the last audit: is any event missing? Exit code 1 where it did not end with `complete`."""
    with session(server, key_file) as about:
        audit_output.show(about, output, run=run)


def _act(
    server: str | None,
    key_file: Path | None,
    order: str,
    verb: str,
    body: dict[str, Any],
    output: Output,
    *,
    wait: bool,
    timeout: float,
) -> None:
    with session(server, key_file) as about:
        receipt = about.client.post(path_of("orders", order, verb), body)
        finish(about, receipt, output, wait=wait, timeout=timeout)


def main() -> None:
    app(prog_name="kn-order")


if __name__ == "__main__":
    main()
