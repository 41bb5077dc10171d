"""kn-order, which kn finds as `kn order`: shows orders and parked events to operators, and takes their actions.

Exit codes: 0 done; 1 not done, refused, parked, or an audit that is not complete; 2 wrong usage or an invalid field;
3 query, or a server that query needs, cannot be reached: try again; 4 no API key, or a key without the permission;
130 interrupted.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any, Final

import typer

from orderflow.kn_order import audit as audits
from orderflow.kn_order import orders
from orderflow.kn_order import repair as repairs
from orderflow.kn_order.client import path_of
from orderflow.kn_order.output import Output
from orderflow.kn_order.parked import app as parked
from orderflow.kn_order.session import (
    GroupOutputOption,
    KeyOption,
    OutputOption,
    ReasonOption,
    ServerOption,
    TimeoutOption,
    WaitOption,
    check_stage,
    finish,
    open_session,
    pass_on_options,
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
def options(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=version_callback("kn-order"), help="print the version"
        ),
    ] = False,
    server: ServerOption = None,
    key_file: KeyOption = None,
    output: GroupOutputOption = None,
) -> None:
    pass_on_options(context, server, key_file, output)


@app.command("list")
def list_orders(
    need: Annotated[
        str | None, typer.Option("--need", help="only orders that need attention for this reason")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="orders per reason")] = 20,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """List the orders that need attention, the longest waiting first."""
    with open_session(server, key_file) as session:
        orders.show_list(session, need, limit, output)


@app.command()
def status(
    order: OrderArgument,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show an order's status, and its waiting and parked events."""
    with open_session(server, key_file) as session:
        orders.show_status(session, session.client.get(path_of("orders", order)), output)


@app.command()
def history(
    order: OrderArgument,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show an order's events from first to last, with operators' actions."""
    with open_session(server, key_file) as session:
        orders.show_history(session, session.client.get(path_of("orders", order)), output)


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
    """Release a held order: it continues from where it was held, and events that waited are applied."""
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
    """Cancel an order that was not shipped yet."""
    _act(server, key_file, order, "cancel", {"reason": reason}, output, wait=wait, timeout=timeout)


@app.command()
def extend(
    order: OrderArgument,
    hours: Annotated[float, typer.Argument(metavar="HOURS", help="hours to wait longer", min=0.01, max=8760)],
    reason: Annotated[
        str | None, typer.Option("--reason", help="why; recorded in the order's history")
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Let an order's waiting events wait longer before they are parked."""
    body = {"hours": hours} | ({"reason": reason} if reason else {})
    _act(server, key_file, order, "extend", body, output, wait=wait, timeout=timeout)


@app.command()
def audit(
    run: Annotated[
        bool, typer.Option("--run", help="run the audit now instead of showing the last run")
    ] = False,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show the last audit: whether any event is missing. Exit code 1 unless its state is `complete`."""
    with open_session(server, key_file) as session:
        audits.show(session, output, run=run)


@app.command()
def repair(
    revision: Annotated[str, typer.Option("--revision", help="the revision whose effects are to be undone")],
    stage: Annotated[str | None, typer.Option("--stage", help="only events that this stage parked")] = None,
    hours: Annotated[
        int, typer.Option("--hours", min=1, max=8760, help="how far back the list of orders goes")
    ] = 168,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be done")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    why: Annotated[str | None, typer.Option("--why", help="recorded in the orders' history")] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Undo what a revision did, after its release went back: send the parked events that it made or parked again from
    where the fault was made, and list by order what cannot be undone."""
    with open_session(server, key_file) as session:
        if stage is not None:
            check_stage(stage)
        body = {"revision": revision, "reason": why or f"repair of {revision}"}
        body |= {"stage": stage} if stage else {}
        repairs.run(session, body, hours, output, dry_run=dry_run, yes=yes, wait=wait, timeout=timeout)


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
    with open_session(server, key_file) as session:
        receipt = session.client.post(path_of("orders", order, verb), body)
        finish(session, receipt, output, wait=wait, timeout=timeout)


def main() -> None:
    app(prog_name="kn-order")


if __name__ == "__main__":
    main()
