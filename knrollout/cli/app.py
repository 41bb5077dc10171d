"""The command kn-rollout, which kn runs as `kn rollout`: canary releases of Knative Services.

Exit codes: 0 done; 1 refused, degraded, or lint found an error; 2 wrong usage; 3 the cluster does not answer or
refuses; 4 the timeout of status is over, or status --no-watch finds a release in progress; 5 status --no-watch finds it
paused; 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated

import typer

from knrollout import version
from knrollout.cli import changes, queries

app = typer.Typer(
    name="kn-rollout",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"kn-rollout {version.version()}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version")
    ] = False,
) -> None:
    """No behaviour of its own; the module's docstring is the help text."""


app.command("list")(queries.list_rollouts)
app.command("get")(queries.get)
app.command("status")(queries.status)
app.command("promote")(changes.promote)
app.command("abort")(changes.abort)
app.command("retry")(changes.retry)
app.command("undo")(changes.undo)
app.command("pause")(changes.pause)
app.command("history")(queries.history)
app.command("lint")(queries.lint_file)


def main() -> None:
    app(prog_name="kn-rollout")
