"""What all commands of `kn order` share: options, the client, the terminal, and the outcome of an action."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orderflow.kn_order import connection
from orderflow.kn_order.client import Client
from orderflow.kn_order.errors import OperatorError, WrongUsageError
from orderflow.kn_order.output import (
    Output,
    plain,
    reason_text,
    state,
    table,
    terminal,
    write_json,
    write_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

Json = dict[str, Any]
UNDER_WAY: Final = "under way"
STAGES: Final = ("validate", "track", "notify", "shelve", "audit", "unknown")
"""The stages that events are parked at. A dead letter that does not name its stage has `unknown`."""

ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="query's address; else ORDERFLOW_SERVER, else the sandbox on this machine"),
]
KeyOption = Annotated[
    Path | None, typer.Option("--key-file", help="file with the API key; else ORDERFLOW_KEY", dir_okay=False)
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or name")]
GroupOutputOption = Annotated[Output | None, typer.Option("--output", "-o", help="table, json or name")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="wait until the outcome is known")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="wait at most for so many seconds", min=0)]
ReasonOption = Annotated[str, typer.Option("--reason", help="why; recorded in the order's history")]


def pass_on_options(
    context: typer.Context,
    server: ServerOption = None,
    key_file: KeyOption = None,
    output: GroupOutputOption = None,
) -> None:
    """Makes options before a command the defaults of that command."""
    options = {"server": server, "key_file": key_file, "output": output}
    defaults = {name: value for name, value in options.items() if value is not None}
    commands = context.command.list_commands(context)  # type: ignore[attr-defined]
    context.default_map = dict.fromkeys(commands, defaults)


@dataclass(frozen=True, slots=True)
class Session:
    """out: for results. err: for progress, confirmations and errors."""

    client: Client
    out: Console
    err: Console


@contextlib.contextmanager
def open_session(server: str | None, key_file: Path | None) -> Iterator[Session]:
    """An OperatorError ends the command with one sentence and the error's exit code."""
    err = terminal(stderr=True)
    try:
        with Client(connection.find(server, key_file)) as client:
            yield Session(client, terminal(), err)
    except OperatorError as error:
        err.print(plain(f"kn order: {error}"), style="red", soft_wrap=True)
        raise typer.Exit(error.code) from None


def check_stage(stage: str) -> None:
    """Raises WrongUsageError, which names the stages, where no stage that parks events has this name."""
    if stage not in STAGES:
        raise WrongUsageError(f"--stage {stage}: this must be one of {', '.join(STAGES)}")


def confirm(question: str) -> None:
    """Asks once. Raises OperatorError where the answer is no, or where stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise OperatorError(f"{question} There is no terminal to confirm it on; use --yes to confirm")
    if not typer.confirm(question, err=True):
        raise OperatorError("nothing was done")


def finish(session: Session, receipt: Json, output: Output, *, wait: bool, timeout: float) -> None:
    """Shows the outcome of a request. Raises OperatorError where an action did not take effect."""
    actions: list[Json] = []
    if wait and receipt["taken"]:
        with session.err.status("waiting for the outcome ..."):
            actions = session.client.outcomes(receipt, timeout)
    if output is Output.JSON:
        write_json(receipt | {"outcomes": actions})
    elif output is Output.NAME:
        write_names(accepted["parked_id"] or accepted["order_id"] for accepted in receipt["taken"])
    else:
        rows = _outcome_rows(receipt, actions, waited=wait)
        session.out.print(
            table(("WHAT", "ORDER", "OUTCOME", "WHY"), rows, fixed=("WHAT", "ORDER", "OUTCOME"))
        )
    _fail_unless_done(receipt, actions, waited=wait, timeout=timeout)


def outcome_of(action: Json) -> tuple[str, str]:
    """The outcome in a word, and why."""
    if action["outcome"] == "refused":
        return "refused", reason_text(action["refusal"])
    if action["kind"] in {"discarded", "extended"}:
        return "done", _extended_events(action)
    if action["event_outcome"] is not None:
        return action["event_outcome"], reason_text(action["event_reason"])
    if action["parked_state"] == "open":
        return "parked", "the event was parked again"
    if action["outcome"] == "sending":
        return UNDER_WAY, "it is being sent"
    return ("sent", "") if action["parked_stage"] in {"notify", "shelve"} else (UNDER_WAY, "")


def _extended_events(action: Json) -> str:
    if action["kind"] != "extended":
        return ""
    events = action["detail"].get("events", 0)
    if not events:
        return "no event waits"
    return f"{events} waiting {'event' if events == 1 else 'events'}"


def _outcome_rows(receipt: Json, actions: list[Json], *, waited: bool) -> Iterator[tuple[Any, ...]]:
    by_id = {action["id"]: action for action in actions}
    for accepted in receipt["taken"]:
        action = by_id.get(accepted["id"])
        outcome, why = outcome_of(action) if action else (UNDER_WAY if waited else "accepted", "")
        yield receipt["kind"], accepted["order_id"], state(outcome), why
    for skipped in receipt["left"]:
        yield receipt["kind"], skipped["order_id"], state("refused"), reason_text(skipped["reason"])


def _fail_unless_done(receipt: Json, actions: list[Json], *, waited: bool, timeout: float) -> None:
    if receipt["more"]:
        raise OperatorError("there are more parked events than one request takes; repeat it for the rest")
    if receipt["left"]:
        raise OperatorError(f"{len(receipt['left'])} of them were refused")
    if not waited:
        return
    outcomes = [outcome_of(action)[0] for action in actions]
    failures = {outcome for outcome in outcomes if outcome in {"refused", "parked"}}
    if failures:
        raise OperatorError(f"it had no effect: {', '.join(sorted(failures))}")
    if len(actions) < len(receipt["taken"]) or UNDER_WAY in outcomes:
        raise OperatorError(
            f"it is under way, but there was no outcome within {timeout:g} s; look at `kn order history ORDER`"
        )
