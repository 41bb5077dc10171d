"""Commands that change nothing: list, get, status, history and lint."""

from __future__ import annotations

import re
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotation when it runs
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.live import Live

from knrollout.api.duration import DURATION, duration_seconds
from knrollout.api.rollout import parse_status
from knrollout.cli import lint
from knrollout.cli.output import (
    OutputFormat,
    console,
    history_table,
    print_json,
    rollout_tree,
    rollouts_table,
)
from knrollout.cli.session import (
    LATE,
    PAUSED,
    REFUSED,
    ContextOption,
    NameArgument,
    NamespaceOption,
    OutputOption,
    fail,
    get_rollout,
    session,
)
from knrollout.cli.wait import release_phase
from knrollout.cluster.view import read_view

if TYPE_CHECKING:
    from rich.console import RenderableType

    from knrollout.api.objects import Document
    from knrollout.api.status import Phase
    from knrollout.cluster.port import Cluster

POLL_SECONDS: Final = 1.0
_EXIT_CODES: Final[dict[Phase, int]] = {
    "Healthy": 0,
    "Degraded": REFUSED,
    "Progressing": LATE,
    "Paused": PAUSED,
}


def list_rollouts(
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A")] = False,
    output: OutputOption = OutputFormat.TABLE,
    context: ContextOption = None,
) -> None:
    """All rollouts: the state of each, and its revision."""
    with session(namespace, context) as (cluster, selected):
        rollouts = cluster.rollouts(None if all_namespaces else selected)
        if output is OutputFormat.JSON:
            print_json(list(rollouts))
        elif not rollouts:
            typer.echo(_nothing_found(selected, all_namespaces=all_namespaces), err=True)
        else:
            console().print(rollouts_table(rollouts, with_namespace=all_namespaces))


def _nothing_found(namespace: str, *, all_namespaces: bool) -> str:
    if all_namespaces:
        return "no namespace has a rollout"
    return f"{namespace} has no rollout; kn rollout list -A shows those of all namespaces"


def get(
    name: NameArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="until Ctrl-C")] = False,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TABLE,
    context: ContextOption = None,
) -> None:
    """One rollout as a tree: its revisions, their shares and their analysis runs."""
    with session(namespace, context) as (cluster, selected):
        rollout = get_rollout(cluster, selected, name)
        if output is OutputFormat.JSON:
            print_json(rollout)
        elif not watch:
            console().print(_tree(cluster, rollout))
        else:
            _watch(cluster, selected, name)


def _tree(cluster: Cluster, rollout: Document) -> RenderableType:
    return rollout_tree(read_view(cluster, rollout))


def _watch(cluster: Cluster, namespace: str, name: str) -> None:
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(_tree(cluster, get_rollout(cluster, namespace, name)), refresh=True)
            time.sleep(POLL_SECONDS)


def status(
    name: NameArgument,
    watch: Annotated[
        bool, typer.Option(help="wait until it is healthy or degraded, or only say what it is now")
    ] = True,
    timeout: Annotated[
        str, typer.Option("--timeout", "-t", help="such as 90s or 10m; 0 waits for ever")
    ] = "0",
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TABLE,
    context: ContextOption = None,
) -> None:
    """Wait for the end of a release: 0 healthy, 1 degraded, 4 not in time. Every change is a line.

    With --no-watch the exit code is that of the moment: 0 healthy, 1 degraded, 4 progressing, 5 paused.
    """
    deadline = _deadline(timeout)
    with session(namespace, context) as (cluster, selected):
        printed = None
        while True:
            phase, message = release_phase(cluster, get_rollout(cluster, selected, name))
            ended = phase in {"Healthy", "Degraded"}
            late = not watch or (deadline is not None and time.monotonic() >= deadline)
            if output is OutputFormat.TABLE and (phase, message) != printed:
                typer.echo(f"{phase}: {message}")
                printed = (phase, message)
            if ended or late:
                break
            time.sleep(POLL_SECONDS)
        if output is OutputFormat.JSON:
            print_json({"phase": phase, "message": message, "timedOut": watch and not ended})
        if watch and not ended:
            fail(LATE, f"{name} is {phase} still; look with: kn rollout get {name}")
        raise typer.Exit(_EXIT_CODES[phase])


def _deadline(timeout: str) -> float | None:
    if not re.fullmatch(DURATION, timeout):
        raise typer.BadParameter("a duration is such as 90s or 10m", param_hint="--timeout")
    seconds = duration_seconds(timeout)
    return time.monotonic() + seconds if seconds else None


def history(
    name: NameArgument,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TABLE,
    context: ContextOption = None,
) -> None:
    """All attempts, with outcome and reason; the newest first."""
    with session(namespace, context) as (cluster, selected):
        rollout_status = parse_status(get_rollout(cluster, selected, name))
        if output is OutputFormat.JSON:
            entries = reversed(rollout_status.history)
            print_json([e.model_dump(mode="json", by_alias=True, exclude_none=True) for e in entries])
        else:
            console().print(history_table(rollout_status))


def lint_file(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="- is standard input")],
    templates: Annotated[
        list[Path] | None,
        typer.Option(
            "--templates",
            exists=True,
            readable=True,
            help="a file or folder with analysis templates; repeatable",
        ),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Check the rollouts of files without a cluster, with the Services and templates in the same files."""
    beside = [file for path in templates or () for file in lint.manifests_below(path)]
    findings = lint.lint([lint.read(file) for file in files], [lint.read(str(file)) for file in beside])
    if output is OutputFormat.JSON:
        print_json([{"where": f.subject, "message": f.message, "grave": f.is_error} for f in findings])
    else:
        for finding in findings:
            typer.echo(f"{finding.subject}: {'' if finding.is_error else 'warning: '}{finding.message}")
    raise typer.Exit(REFUSED if any(finding.is_error for finding in findings) else 0)
