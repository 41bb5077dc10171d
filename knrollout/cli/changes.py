"""Commands that steer a release: promote, abort, retry, undo and pause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from knrollout.api import commands
from knrollout.api.objects import Service
from knrollout.api.rollout import service_name
from knrollout.cli.session import ContextOption, NameArgument, NamespaceOption, get_rollout, session

if TYPE_CHECKING:
    from knrollout.api.commands import Command
    from knrollout.cluster.port import Cluster


def promote(
    name: NameArgument,
    full: Annotated[bool, typer.Option("--full", help="skip all remaining steps and analyses")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Pass the step that the release waits at, resume it, or write over a manual edit of its traffic."""
    with session(namespace, context) as (cluster, selected):
        command = commands.promote(get_rollout(cluster, selected, name), full=full)
        _apply(cluster, selected, name, command)


def abort(name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None) -> None:
    """Send all traffic back to the stable revision, now."""
    with session(namespace, context) as (cluster, selected):
        _apply(cluster, selected, name, commands.abort(get_rollout(cluster, selected, name)))


def retry(name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None) -> None:
    """Try an aborted revision again, or measure again where an analysis has no result."""
    with session(namespace, context) as (cluster, selected):
        _apply(cluster, selected, name, commands.retry(get_rollout(cluster, selected, name)))


def undo(
    name: NameArgument,
    to_revision: Annotated[
        str | None, typer.Option("--to-revision", help="default: the last stable one")
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Release an earlier revision: at once within the rollback window, else by the steps."""
    with session(namespace, context) as (cluster, selected):
        rollout = get_rollout(cluster, selected, name)
        workload = service_name(rollout) or ""
        service = cluster.service(selected, workload)
        revisions = {revision["metadata"]["name"] for revision in cluster.revisions(selected, workload)}
        latest = Service.parse(service).latest_created_revision if service is not None else None
        _apply(cluster, selected, name, commands.undo(rollout, to_revision, latest, revisions))


def pause(name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None) -> None:
    """Stay at the current step of the release. Analyses continue, and a failed one aborts it."""
    with session(namespace, context) as (cluster, selected):
        _apply(cluster, selected, name, commands.pause(get_rollout(cluster, selected, name)))


def _apply(cluster: Cluster, namespace: str, name: str, command: Command) -> None:
    if not command.changes_nothing:
        cluster.patch_rollout(namespace, name, command.annotations, command.paused)
    typer.echo(f"{name}: {command.description}")
