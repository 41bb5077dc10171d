"""Releases in progress: what the console shows of them, and operators' commands to them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from knrollout.api import names
from knrollout.api.commands import COMMANDS, RefusedError
from knrollout.cluster.errors import ClusterError
from knrollout.cluster.errors import ConflictError as WriteConflictError
from knrollout.cluster.view import read_view, summarize
from orderflow.errors import BadSettingsError, ConflictError, NotFoundError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knrollout.api.commands import Command
    from knrollout.api.objects import Document
    from knrollout.cluster.port import Cluster
    from knrollout.cluster.view import RolloutSummary, RolloutView

_TIMEOUT_SECONDS: Final = 2.0
"""A page of orders must not wait long for a cluster that does not answer."""


class Rollouts:
    """The rollouts of one namespace. Every method raises TransientError where the cluster does not answer."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    @classmethod
    def connect(cls) -> Rollouts:
        """Connects to the cluster of this process, or to the kubeconfig's. Raises BadSettingsError."""
        try:
            from knrollout.cluster.connection import configured_namespace, connect  # it takes half a second

            return cls(connect(timeout_seconds=_TIMEOUT_SECONDS), configured_namespace())
        except ImportError:
            raise BadSettingsError("ROLLOUTS: the packages of the extra `rollout` are missing") from None
        except ClusterError as error:
            raise BadSettingsError(f"ROLLOUTS: {error}") from None

    def all(self) -> list[RolloutSummary]:
        with _cluster_errors():
            rows = map(summarize, self._cluster.rollouts(self._namespace))
            return sorted(rows, key=lambda row: row.name)

    def one(self, name: str) -> RolloutView:
        with _cluster_errors():
            return read_view(self._cluster, self._document(name))

    def send(self, name: str, verb: str, operator: str, confirmed: str | None = None) -> str:
        """Writes the command to the cluster and returns it in words.

        Raises ConflictError where the release does not allow the command, or where the command is no longer the one
        that was confirmed: a release progresses while a person reads the question.
        """
        with _cluster_errors():
            document = self._document(name)
            command = self._command(document, verb)
            if confirmed is not None and confirmed != self.confirmation(command):
                raise ConflictError("the release has progressed since you were asked; nothing was done")
            if not command.changes_nothing:
                annotations = {**command.annotations, names.ASKED_BY_ANNOTATION: f"{operator}: {verb}"}
                self._cluster.patch_rollout(self._namespace, name, annotations, command.paused)
            return command.description

    @staticmethod
    def confirmation(command: Command) -> str:
        """What an operator confirms: a text that is the same as long as the command has the same effect."""
        return "; ".join(
            [*(f"{name}={value}" for name, value in sorted(command.annotations.items())), str(command.paused)]
        )

    def _document(self, name: str) -> Document:
        document = self._cluster.rollout(self._namespace, name)
        if document is None:
            raise NotFoundError(f"there is no rollout {name}")
        return document

    def _command(self, document: Document, verb: str) -> Command:
        try:
            return COMMANDS[verb](document)
        except RefusedError as refused:
            raise ConflictError(str(refused)) from None


@contextmanager
def _cluster_errors() -> Iterator[None]:
    try:
        yield
    except WriteConflictError:
        raise ConflictError("somebody else changed the release at the same moment; look again") from None
    except ClusterError as error:
        raise TransientError(str(error)) from None
