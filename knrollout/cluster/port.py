"""The cluster as an interface. Documents are the API server's JSON; an object that does not exist is None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from knrollout.api.objects import Document
    from knrollout.decide.actions import SetTraffic
    from knrollout.decide.events import Event


class Cluster(Protocol):
    """Every method raises ClusterError.

    write_status and set_traffic also raise ConflictError if the object has changed since it was read.
    """

    def rollout(self, namespace: str, name: str) -> Document | None: ...

    def rollouts(self, namespace: str | None) -> Sequence[Document]:
        """None: those of all namespaces."""

    def service(self, namespace: str, name: str) -> Document | None: ...

    def revisions(self, namespace: str, service: str) -> Sequence[Document]: ...

    def pods(self, namespace: str, service: str) -> Sequence[Document]: ...

    def runs(self, namespace: str, rollout: str) -> Sequence[Document]: ...

    def template(self, namespace: str, name: str, *, cluster_scope: bool) -> Document | None: ...

    def write_status(self, rollout: Document, status: Mapping[str, Any]) -> None: ...

    def set_traffic(self, namespace: str, action: SetTraffic) -> None: ...

    def start_run(self, manifest: Document) -> None:
        """A run that exists is left as it is."""

    def stop_run(self, namespace: str, name: str) -> None:
        """A run that does not exist is no error."""

    def delete_run(self, namespace: str, name: str) -> None:
        """A run that does not exist is no error."""

    def create_event(self, rollout: Document, event: Event) -> None: ...

    def patch_rollout(
        self, namespace: str, name: str, annotations: Mapping[str, str | None], paused: bool | None
    ) -> None:
        """An annotation that is None is removed. paused is the new spec.paused; None leaves it unchanged."""
