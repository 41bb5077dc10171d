"""`kn order parked`: what could not be handled, and what to do about it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import typer

from orderflow.kn_order import editor
from orderflow.kn_order.client import WrongUsageError, path_of
from orderflow.kn_order.output import Output
from orderflow.kn_order.parked_output import show_letter, show_list, show_plan
from orderflow.kn_order.session import (
    KeyOption,
    OutputOption,
    ReasonOption,
    ServerOption,
    TimeoutOption,
    WaitOption,
    confirm,
    finish,
    remember,
    session,
)

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="Events that could not be handled: see, mend, replay, discard.",
    callback=remember,
)

TIMEOUT = 30.0
LetterArgument = Annotated[str, typer.Argument(metavar="ID", help="a parked event's id")]
WhyOption = Annotated[str | None, typer.Option("--why", help="stands in the order's history")]


@app.command("list")
def list_letters(
    reason: Annotated[str | None, typer.Option("--reason", help="only those of this reason's code")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="only what this stage could not handle")
    ] = None,
    order: Annotated[str | None, typer.Option("--order", help="only this order's")] = None,
    state: Annotated[str, typer.Option("--state", help="open, replayed, discarded or all")] = "open",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 50,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Parked events, the latest first."""
    if state not in {"open", "replayed", "discarded", "all"}:
        raise typer.BadParameter(f"{state!r} is not open, replayed, discarded or all", param_hint="--state")
    with session(server, key_file) as about:
        asked = {"code": reason, "stage": stage, "order": order, "state": None if state == "all" else state}
        show_list(about, asked, limit, output)


@app.command()
def show(
    letter: LetterArgument,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="with personal data; the log notes who saw it")
    ] = False,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """One parked event: where it failed, why, how often, what was done, and what it says."""
    with session(server, key_file) as about:
        found = about.client.get(path_of("parked", letter), reveal=1 if reveal else None)
        show_letter(about, found, output)


@app.command()
def edit(
    letter: LetterArgument,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="such as data.total=2900; repeatable"),
    ] = None,
    unsets: Annotated[
        list[str] | None, typer.Option("--unset", metavar="PATH", help="take it out; repeatable")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="the whole event as JSON; - is stdin")] = None,
    why: WhyOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Mend a parked event and send it to the inbox, where it is validated anew.

    Without --set, --unset and --file, $EDITOR opens it, personal data included (the log notes who saw it).
    """
    if file is not None and (sets or unsets):
        raise typer.BadParameter("goes without --set and --unset", param_hint="--file")
    with session(server, key_file) as about:
        said = {"reason": why} if why else {}
        if sets or unsets:
            receipt = editor.send(about, letter, {"set": editor.changes(sets or [], unsets or [])} | said)
        elif file is not None:
            receipt = editor.send(about, letter, {"event": editor.read(file)} | said)
        else:
            receipt = editor.by_hand(about, letter, said)
        finish(about, receipt, output, wait=wait, timeout=timeout)


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="parked events")] = None,
    order: Annotated[str | None, typer.Option("--order", help="all open ones of this order")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="all open ones of this reason's code and --stage")
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="goes with --reason")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be replayed")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    why: WhyOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = TIMEOUT,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
    key_file: KeyOption = None,
) -> None:
    """Send parked events again, in the order in which they happened: some, an order's, or all of one reason."""
    with session(server, key_file) as about:
        wanted = _selection(ids or [], order, reason, stage)
        body = wanted | ({"reason": why} if why else {})
        if dry_run or not (ids or yes):
            plan = about.client.post(path_of("parked", "replay"), body | {"dry_run": True})
            show_plan(about, plan, output if dry_run else Output.TABLE, asking=not dry_run)
            if dry_run or not plan["taken"]:
                return
            confirm(f"Replay {len(plan['taken'])}?")
        receipt = about.client.post(path_of("parked", "replay"), body)
        finish(about, receipt, output, wait=wait, timeout=timeout)


def _selection(ids: list[str], order: str | None, reason: str | None, stage: str | None) -> Json:
    """Raises WrongUsageError where it is none, or two at once."""
    ways = [bool(ids), order is not None, reason is not None or stage is not None]
    if sum(ways) != 1:
        raise WrongUsageError("say what to replay: ids, or --order ORDER, or --reason CODE --stage STAGE")
    if ids:
        return {"ids": ids}
    if order is not None:
        return {"order": order}
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
    """Close parked events for good; they are kept, and stay closed however often they come again."""
    with session(server, key_file) as about:
        for letter in ids:
            receipt = about.client.post(path_of("parked", letter, "discard"), {"reason": reason})
            finish(about, receipt, output, wait=wait, timeout=timeout)
