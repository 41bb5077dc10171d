"""`kn order parked`: events that could not be handled."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import typer

from orderflow.kn_order import edit as edits
from orderflow.kn_order.client import path_of
from orderflow.kn_order.errors import WrongUsageError
from orderflow.kn_order.output import Output
from orderflow.kn_order.parked_output import show_event, show_list, show_plan
from orderflow.kn_order.session import (
    KeyOption,
    OutputOption,
    ReasonOption,
    ServerOption,
    TimeoutOption,
    WaitOption,
    check_stage,
    confirm,
    finish,
    open_session,
    pass_on_options,
)

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="Events that could not be handled: show, edit, replay, discard.",
    callback=pass_on_options,
)

TIMEOUT = 30.0
ParkedIdArgument = Annotated[str, typer.Argument(metavar="ID", help="a parked event's id")]
WhyOption = Annotated[str | None, typer.Option("--why", help="recorded in the order's history")]


@app.command("list")
def list_parked(
    reason: Annotated[
        str | None, typer.Option("--reason", help="only events parked for this reason's code")
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="only events that this stage parked")] = None,
    order: Annotated[str | None, typer.Option("--order", help="only events of this order")] = None,
    state: Annotated[str, typer.Option("--state", help="open, replayed, discarded or all")] = "open",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 50,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """List parked events, the latest first."""
    if state not in {"open", "replayed", "discarded", "all"}:
        raise typer.BadParameter(f"{state!r} is not open, replayed, discarded or all", param_hint="--state")
    with open_session(server, key_file) as session:
        if stage is not None:
            check_stage(stage)
        filters = {"code": reason, "stage": stage, "order": order, "state": None if state == "all" else state}
        show_list(session, filters, limit, output)


@app.command()
def show(
    parked_id: ParkedIdArgument,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="with personal data; the log notes who sees it")
    ] = False,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Show a parked event: where it failed, why and how often, actions on it, and its content."""
    with open_session(server, key_file) as session:
        event = session.client.get(path_of("parked", parked_id), reveal=1 if reveal else None)
        show_event(session, event, output)


@app.command()
def edit(
    parked_id: ParkedIdArgument,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="such as data.total=2900; repeatable"),
    ] = None,
    unsets: Annotated[
        list[str] | None, typer.Option("--unset", metavar="PATH", help="remove it; repeatable")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="the whole event as JSON; - is stdin")] = None,
    why: WhyOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Edit a parked event and send it to the inbox, where it is validated again.

    Without --set, --unset and --file, $EDITOR opens the event, with personal data (the log notes who sees it).
    """
    if file is not None and (sets or unsets):
        raise typer.BadParameter("cannot be combined with --set and --unset", param_hint="--file")
    with open_session(server, key_file) as session:
        body: Json = {"reason": why} if why else {}
        if sets or unsets:
            body["set"] = edits.parse_changes(sets or [], unsets or [])
            receipt = edits.send(session, parked_id, body)
        elif file is not None:
            receipt = edits.send(session, parked_id, body | {"event": edits.read_file(file)})
        else:
            receipt = edits.send_from_editor(session, parked_id, body)
        finish(session, receipt, output, wait=wait, timeout=timeout)


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="parked events")] = None,
    order: Annotated[str | None, typer.Option("--order", help="all open events of this order")] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="all open events that --stage parked for this reason's code"),
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="needed with --reason")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be replayed")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    why: WhyOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Send parked events again, in the order in which they happened: some, an order's, or all of one reason."""
    with open_session(server, key_file) as session:
        body = _selection(ids or [], order, reason, stage) | ({"reason": why} if why else {})
        if dry_run or not (ids or yes):
            plan = session.client.post(path_of("parked", "replay"), body | {"dry_run": True})
            show_plan(session, plan, output if dry_run else Output.TABLE, asking=not dry_run)
            if dry_run or not plan["taken"]:
                return
            confirm(f"Replay {len(plan['taken'])}?")
        receipt = session.client.post(path_of("parked", "replay"), body)
        finish(session, receipt, output, wait=wait, timeout=timeout)


def _selection(ids: list[str], order: str | None, reason: str | None, stage: str | None) -> Json:
    """Raises WrongUsageError unless exactly one way to select is used."""
    ways = [bool(ids), order is not None, reason is not None or stage is not None]
    if sum(ways) != 1:
        raise WrongUsageError("say what to replay: ids, or --order ORDER, or --reason CODE --stage STAGE")
    if ids:
        return {"ids": ids}
    if order is not None:
        return {"order": order}
    if stage is not None:
        check_stage(stage)
    if not (reason and stage):
        raise WrongUsageError("--reason and --stage go together, so that what is replayed failed in one way")
    return {"code": reason, "stage": stage}


@app.command()
def discard(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="parked events")],
    reason: ReasonOption,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Close parked events. They are kept, and stay closed however often the same event is parked again."""
    with open_session(server, key_file) as session:
        for parked_id in ids:
            receipt = session.client.post(path_of("parked", parked_id, "discard"), {"reason": reason})
            finish(session, receipt, output, wait=wait, timeout=timeout)
