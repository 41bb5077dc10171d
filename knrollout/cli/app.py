"""The command kn-rollout, which kn finds as `kn rollout`: canary releases of Knative Services.

Exit codes: 0 done; 1 refused, degraded, or lint found a fault; 2 wrong usage; 3 the cluster cannot be
asked or says no; 4 the time given to status is over; 130 interrupted.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from rich.live import Live

from knrollout.api import commands
from knrollout.api.commands import Ask, RefusedError
from knrollout.api.objects import Service
from knrollout.api.spec import DURATION, seconds
from knrollout.cli import output as showing
from knrollout.cli.lint import lint as findings_of
from knrollout.cli.output import Output
from knrollout.cli.wait import standing
from knrollout.cluster.errors import ClusterError, ConflictError
from knrollout.cluster.reader import service_name, status_of
from knrollout.version import version as released

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.api.objects import Document
    from knrollout.cluster.port import Cluster

app = typer.Typer(
    name="kn-rollout",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__,
)
REFUSED, UNREACHABLE, LATE, INTERRUPTED = 1, 3, 4, 130
POLL_SECONDS: Final = 1.0


def _names(context: typer.Context) -> list[str]:
    """Completion: the rollouts of the namespace; none where the cluster cannot be asked."""
    try:
        namespace, where = context.params.get("namespace"), context.params.get("context")
        cluster, chosen = _connected(namespace, where)
        return [document["metadata"]["name"] for document in cluster.rollouts(chosen)]
    except ClusterError:
        return []


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="of the rollout", autocompletion=_names)]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", "-n", help="else the kubeconfig's")]
ContextOption = Annotated[str | None, typer.Option("--context", help="of the kubeconfig")]
FileArgument = Annotated[typer.FileText, typer.Argument(metavar="FILE", help="- is standard input")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json")]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kn-rollout {released()}")
        raise typer.Exit


@app.callback()
def begin(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="which release this is")
    ] = False,
) -> None:
    """Nothing of its own; the module's docstring is the help."""


@app.command("list")
def list_rollouts(
    namespace: NamespaceOption = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A")] = False,
    output: OutputOption = Output.TABLE,
    context: ContextOption = None,
) -> None:
    """All rollouts: where each stands, with which revision."""
    with _session(namespace, context) as (cluster, chosen):
        found = cluster.rollouts(None if everywhere else chosen)
        if output is Output.JSON:
            showing.as_json(list(found))
        else:
            showing.console().print(showing.rollouts(found, namespaces=everywhere))


@app.command()
def get(
    name: NameArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="until Ctrl-C")] = False,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
    context: ContextOption = None,
) -> None:
    """One rollout as a tree: its revisions, their shares and their analysis runs."""
    with _session(namespace, context) as (cluster, chosen):
        document = _rollout(cluster, chosen, name)
        if output is Output.JSON:
            showing.as_json(document)
        elif not watch:
            showing.console().print(showing.rollout(cluster, document))
        else:
            _watch(cluster, chosen, name)


@app.command()
def status(
    name: NameArgument,
    watch: Annotated[bool, typer.Option(help="wait until it is healthy or degraded")] = True,
    timeout: Annotated[
        str, typer.Option("--timeout", "-t", help="such as 90s or 10m; 0 waits for ever")
    ] = "0",
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
    context: ContextOption = None,
) -> None:
    """Wait for the end of a release: 0 healthy, 1 degraded, 4 not in time. Every change is a line."""
    deadline = _deadline(timeout)
    with _session(namespace, context) as (cluster, chosen):
        told = None
        while True:
            phase, why = standing(cluster, _rollout(cluster, chosen, name))
            ended = phase in {"Healthy", "Degraded"} or not watch
            late = deadline is not None and time.monotonic() >= deadline
            if output is Output.TABLE and (phase, why) != told:
                typer.echo(f"{phase}: {why}")
                told = (phase, why)
            if ended or late:
                break
            time.sleep(POLL_SECONDS)
        if output is Output.JSON:
            showing.as_json({"phase": phase, "message": why, "timedOut": not ended})
        if not ended:
            _fail(LATE, f"{name} is {phase} still; look with: kn rollout get {name}")
        raise typer.Exit(REFUSED if phase == "Degraded" else 0)


@app.command()
def promote(
    name: NameArgument,
    full: Annotated[bool, typer.Option("--full", help="skip all steps and analyses that are left")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Pass the step that the release waits at, resume it, or write over a hand edit of its traffic."""
    with _session(namespace, context) as (cluster, chosen):
        _ask(cluster, chosen, name, commands.promote(_rollout(cluster, chosen, name), full=full))


@app.command()
def abort(name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None) -> None:
    """Send everything back to the stable revision, now."""
    with _session(namespace, context) as (cluster, chosen):
        _ask(cluster, chosen, name, commands.abort(_rollout(cluster, chosen, name)))


@app.command()
def retry(name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None) -> None:
    """Try an aborted revision again, or measure again where an analysis said nothing."""
    with _session(namespace, context) as (cluster, chosen):
        _ask(cluster, chosen, name, commands.retry(_rollout(cluster, chosen, name)))


@app.command()
def undo(
    name: NameArgument,
    to_revision: Annotated[str | None, typer.Option("--to-revision", help="else the last stable one")] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Release an earlier revision: at once within the rollback window, else by the steps."""
    with _session(namespace, context) as (cluster, chosen):
        document = _rollout(cluster, chosen, name)
        service = service_name(document) or ""
        found = cluster.service(chosen, service)
        existing = {revision["metadata"]["name"] for revision in cluster.revisions(chosen, service)}
        latest = Service.read(found).latest_created if found is not None else None
        _ask(cluster, chosen, name, commands.undo(document, to_revision, latest, existing))


@app.command()
def pause(name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None) -> None:
    """Stay at the step where the release is; analyses go on, and a failed one aborts."""
    with _session(namespace, context) as (cluster, chosen):
        _ask(cluster, chosen, name, commands.pause(_rollout(cluster, chosen, name)))


@app.command()
def history(
    name: NameArgument,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
    context: ContextOption = None,
) -> None:
    """What was tried, what became of it, and why; the newest first."""
    with _session(namespace, context) as (cluster, chosen):
        known = status_of(_rollout(cluster, chosen, name))
        if output is Output.JSON:
            entries = reversed(known.history)
            showing.as_json([e.model_dump(mode="json", by_alias=True, exclude_none=True) for e in entries])
        else:
            showing.console().print(showing.history(known))


@app.command()
def lint(
    file: FileArgument,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check the rollouts of a file without a cluster; Services and templates beside them are looked at too."""
    found = findings_of(file.read())
    if output is Output.JSON:
        showing.as_json([{"where": f.where, "message": f.message, "grave": f.grave} for f in found])
    else:
        for finding in found:
            typer.echo(f"{finding.where}: {'' if finding.grave else 'careful: '}{finding.message}")
    raise typer.Exit(REFUSED if any(finding.grave for finding in found) else 0)


def _connected(namespace: str | None, context: str | None) -> tuple[Cluster, str]:
    from knrollout.cluster.kubernetes import configured_namespace, connect  # it takes half a second

    return connect(context), namespace or configured_namespace(context)


@contextmanager
def _session(namespace: str | None, context: str | None) -> Iterator[tuple[Cluster, str]]:
    """Every trouble with the cluster ends in one sentence and an exit code."""
    try:
        yield _connected(namespace, context)
    except RefusedError as refused:
        _fail(REFUSED, str(refused))
    except ConflictError:
        _fail(UNREACHABLE, "somebody else wrote at the same moment; try again")
    except ClusterError as error:
        _fail(UNREACHABLE, str(error))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _rollout(cluster: Cluster, namespace: str, name: str) -> Document:
    found = cluster.rollout(namespace, name)
    if found is None:
        raise RefusedError(f"there is no rollout {name} in {namespace}; kn rollout list -A shows all")
    return found


def _ask(cluster: Cluster, namespace: str, name: str, ask: Ask) -> None:
    if not ask.empty:
        cluster.ask(namespace, name, ask.annotations, ask.paused)
    typer.echo(f"{name}: {ask.words}")


def _watch(cluster: Cluster, namespace: str, name: str) -> None:
    with Live(console=showing.console(), auto_refresh=False) as live:
        while True:
            live.update(showing.rollout(cluster, _rollout(cluster, namespace, name)), refresh=True)
            time.sleep(POLL_SECONDS)


def _deadline(text: str) -> float | None:
    if not re.fullmatch(DURATION, text):
        raise typer.BadParameter("a duration is such as 90s or 10m", param_hint="--timeout")
    return time.monotonic() + seconds(text) if seconds(text) else None


def _fail(code: int, message: str) -> NoReturn:
    typer.echo(f"kn-rollout: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    app(prog_name="kn-rollout")
