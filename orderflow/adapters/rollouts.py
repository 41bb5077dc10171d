"""Releases on their way, as the console shows them and lets operators steer them. The cluster is knrollout's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from knrollout.api import names
from knrollout.api.commands import COMMANDS, RefusedError
from knrollout.cluster.errors import ClusterError
from knrollout.cluster.errors import ConflictError as WrittenMeanwhileError
from knrollout.cluster.view import read_view, summarize
from orderflow.errors import BadSettingsError, ConflictError, UnavailableError, UnknownError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.api.commands import Command
    from knrollout.api.objects import Document
    from knrollout.cluster.port import Cluster
    from knrollout.cluster.view import RolloutSummary, RolloutView

_PATIENCE_SECONDS: Final = 2.0
"""A page of orders must not wait long for a cluster that does not answer."""


class Rollouts:
    """Those of one namespace. Every method raises UnavailableError where the cluster does not answer."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    @classmethod
    def connect(cls) -> Rollouts:
        """The cluster that this process runs in, or the kubeconfig's. Raises BadSettingsError."""
        try:
            from knrollout.cluster.connection import configured_namespace, connect  # it takes half a second

            return cls(connect(timeout_seconds=_PATIENCE_SECONDS), configured_namespace())
        except ImportError:
            raise BadSettingsError("ROLLOUTS: the packages of requirements-rollout.txt are missing") from None
        except ClusterError as error:
            raise BadSettingsError(f"ROLLOUTS: {error}") from None

    def all(self) -> list[RolloutSummary]:
        with _cluster():
            return sorted(map(summarize, self._cluster.rollouts(self._namespace)), key=lambda one: one.name)

    def one(self, name: str) -> RolloutView:
        with _cluster():
            return read_view(self._cluster, self._document(name))

    def ask(self, name: str, verb: str, operator: str, confirmed: str | None = None) -> str:
        """What was asked for, in words. Raises ConflictError if it cannot be asked for now, or if it is no longer
        what was confirmed: a release goes on while a person reads a question.
        """
        with _cluster():
            document = self._document(name)
            asked = self._asked(document, verb)
            if confirmed is not None and confirmed != mark(asked):
                raise ConflictError("the release has gone on since you were asked; nothing was done")
            if not asked.changes_nothing:
                annotations = {**asked.annotations, names.ASKED_BY_ANNOTATION: f"{operator}: {verb}"}
                self._cluster.patch_rollout(self._namespace, name, annotations, asked.paused)
            return asked.description

    def _document(self, name: str) -> Document:
        found = self._cluster.rollout(self._namespace, name)
        if found is None:
            raise UnknownError(f"there is no rollout {name}")
        return found

    def _asked(self, document: Document, verb: str) -> Command:
        try:
            return COMMANDS[verb](document)
        except RefusedError as refused:
            raise ConflictError(str(refused)) from None


def mark(command: Command) -> str:
    """What a confirmation is of: the same as long as the request would say the same."""
    return "; ".join(
        [*(f"{name}={value}" for name, value in sorted(command.annotations.items())), str(command.paused)]
    )


@contextmanager
def _cluster() -> Iterator[None]:
    try:
        yield
    except WrittenMeanwhileError:
        raise ConflictError("somebody else wrote at the same moment; look again") from None
    except ClusterError as error:
        raise UnavailableError(str(error)) from None
