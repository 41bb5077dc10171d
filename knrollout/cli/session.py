"""What the commands share: their options, the connection to the cluster, and exit codes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from knrollout.api.commands import RefusedError
from knrollout.cli.output import OutputFormat
from knrollout.cluster.errors import ClusterError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.api.objects import Document
    from knrollout.cluster.port import Cluster

REFUSED, UNREACHABLE, LATE, PAUSED, INTERRUPTED = 1, 3, 4, 5, 130


def _complete_name(context: typer.Context) -> list[str]:
    """The rollouts of the namespace; none if the cluster does not answer."""
    try:
        cluster, namespace = _connect(context.params.get("namespace"), context.params.get("context"))
        return [document["metadata"]["name"] for document in cluster.rollouts(namespace)]
    except ClusterError:
        return []


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="name of the rollout", autocompletion=_complete_name)
]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="default: that of the kubeconfig's context")
]
ContextOption = Annotated[str | None, typer.Option("--context", help="name of a context in the kubeconfig")]
OutputOption = Annotated[OutputFormat, typer.Option("--output", "-o", help="table or json")]


@contextmanager
def session(namespace: str | None, context: str | None) -> Iterator[tuple[Cluster, str]]:
    """The cluster and the namespace. An error of the cluster becomes one sentence and an exit code."""
    try:
        yield _connect(namespace, context)
    except RefusedError as error:
        fail(REFUSED, str(error))
    except ConflictError:
        fail(UNREACHABLE, "somebody else wrote at the same moment; try again")
    except ClusterError as error:
        fail(UNREACHABLE, str(error))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _connect(namespace: str | None, context: str | None) -> tuple[Cluster, str]:
    from knrollout.cluster.connection import configured_namespace, connect  # the import takes half a second

    return connect(context), namespace or configured_namespace(context)


def get_rollout(cluster: Cluster, namespace: str, name: str) -> Document:
    document = cluster.rollout(namespace, name)
    if document is None:
        raise RefusedError(f"there is no rollout {name} in {namespace}; kn rollout list -A shows all")
    return document


def fail(exit_code: int, message: str) -> NoReturn:
    typer.echo(f"kn-rollout: {message}", err=True)
    raise typer.Exit(exit_code)
