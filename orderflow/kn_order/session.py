"""What every verb of `kn order` needs: a client, somewhere to write, and how trouble ends."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orderflow.kn_order import connection
from orderflow.kn_order.client import Client, OperatorError
from orderflow.kn_order.output import Output, because, plain, table, terminal, word, write_json, write_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

Json = dict[str, Any]
UNDER_WAY: Final = "under way"

ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="query's address; else ORDERFLOW_SERVER, else the sandbox that runs here"),
]
KeyOption = Annotated[
    Path | None, typer.Option("--key-file", help="file with the API key; else ORDERFLOW_KEY", dir_okay=False)
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or name")]
EarlyOutputOption = Annotated[Output | None, typer.Option("--output", "-o", help="table, json or name")]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="wait until it is known what became of it")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", help="for how many seconds to wait at most", min=0)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="why; it stands in the order's history")]


def remember(
    context: typer.Context,
    server: ServerOption = None,
    key_file: KeyOption = None,
    output: EarlyOutputOption = None,
) -> None:
    """Options that stand before a verb are that verb's, unless it is given its own."""
    given = {"server": server, "key_file": key_file, "output": output}
    kept = {name: value for name, value in given.items() if value is not None}
    verbs = context.command.list_commands(context)  # type: ignore[attr-defined]
    context.default_map = dict.fromkeys(verbs, kept)


@dataclass(frozen=True, slots=True)
class Session:
    """out is for what was asked for, err for progress, confirmations and errors."""

    client: Client
    out: Console
    err: Console


@contextlib.contextmanager
def session(server: str | None, key_file: Path | None) -> Iterator[Session]:
    """Known trouble ends the command with one sentence and its exit code."""
    err = terminal(stderr=True)
    try:
        with Client(connection.find(server, key_file)) as client:
            yield Session(client, terminal(), err)
    except OperatorError as error:
        err.print(plain(f"kn order: {error}"), style="red", soft_wrap=True)
        raise typer.Exit(error.code) from None


def confirm(question: str) -> None:
    """Asks once. Raises OperatorError where the answer is no, or there is nobody to ask."""
    if not sys.stdin.isatty():
        raise OperatorError(f"{question} Nobody is here to confirm it; say --yes if you mean it")
    if not typer.confirm(question, err=True):
        raise OperatorError("nothing was done")


def finish(about: Session, receipt: Json, output: Output, *, wait: bool, timeout: float) -> None:
    """Says what became of a request. Raises OperatorError where any of it did not take effect."""
    found: list[Json] = []
    if wait and receipt["taken"]:
        with about.err.status("waiting for the outcome ..."):
            found = about.client.outcomes(receipt, timeout)
    if output is Output.JSON:
        write_json(receipt | {"outcomes": found})
    elif output is Output.NAME:
        write_names(taken["parked_id"] or taken["order_id"] for taken in receipt["taken"])
    else:
        rows = _outcome_rows(receipt, found, waited=wait)
        about.out.print(table(("WHAT", "ORDER", "OUTCOME", "WHY"), rows, fixed=("WHAT", "ORDER", "OUTCOME")))
    _fail_unless_done(receipt, found, waited=wait, timeout=timeout)


def outcome(action: Json) -> tuple[str, str]:
    """What became of an action, in a word, and why."""
    if action["outcome"] == "refused":
        return "refused", because(action["refusal"])
    if action["kind"] in {"discarded", "extended"}:
        return "done", _extent(action)
    if action["event_outcome"] is not None:
        return action["event_outcome"], because(action["event_reason"])
    if action["parked_state"] == "open":
        return "parked", "the event was parked again"
    return ("sent", "") if action["parked_stage"] in {"notify", "shelve"} else (UNDER_WAY, "")


def _extent(action: Json) -> str:
    if action["kind"] != "extended":
        return ""
    events = action["detail"].get("events", 0)
    if not events:
        return "no event waits"
    return f"{events} waiting {'event' if events == 1 else 'events'}"


def _outcome_rows(receipt: Json, found: list[Json], *, waited: bool) -> Iterator[tuple[Any, ...]]:
    known = {action["id"]: action for action in found}
    for taken in receipt["taken"]:
        action = known.get(taken["id"])
        unknown = UNDER_WAY if waited else "taken"
        said, why = outcome(action) if action else (unknown, "")
        yield receipt["kind"], taken["order_id"], word(said), why
    for left in receipt["left"]:
        yield receipt["kind"], left["order_id"], word("refused"), because(left["reason"])


def _fail_unless_done(receipt: Json, found: list[Json], *, waited: bool, timeout: float) -> None:
    if receipt["more"]:
        raise OperatorError("there are more than go at once; ask again for the rest")
    if receipt["left"]:
        raise OperatorError(f"{len(receipt['left'])} of them could not be taken")
    if not waited:
        return
    said = [outcome(action)[0] for action in found]
    failed = [each for each in said if each in {"refused", "parked"}]
    if failed:
        raise OperatorError(f"it had no effect: {', '.join(sorted(set(failed)))}")
    if len(found) < len(receipt["taken"]) or UNDER_WAY in said:
        raise OperatorError(
            f"it is under way, and there was no outcome within {timeout:g} s; `kn order history ORDER` will tell"
        )
