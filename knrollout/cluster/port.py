"""What is asked of a cluster. Documents are the API server's own JSON; a missing object is None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from knrollout.api.objects import Document
    from knrollout.decide.actions import SetTraffic
    from knrollout.decide.events import Notice


class Cluster(Protocol):
    """Every write but those of runs is refused with ConflictError if the object is not as it was read."""

    def rollout(self, namespace: str, name: str) -> Document | None: ...

    def rollouts(self, namespace: str | None) -> Sequence[Document]: ...

    def service(self, namespace: str, name: str) -> Document | None: ...

    def revisions(self, namespace: str, service: str) -> Sequence[Document]: ...

    def runs(self, namespace: str, rollout: str) -> Sequence[Document]: ...

    def template(self, namespace: str, name: str, *, cluster_wide: bool) -> Document | None: ...

    def write_status(self, rollout: Document, status: Mapping[str, Any]) -> None: ...

    def set_traffic(self, namespace: str, wanted: SetTraffic) -> None: ...

    def start_run(self, manifest: Document) -> None:
        """One that exists is left as it is."""

    def stop_run(self, namespace: str, name: str) -> None:
        """One that is gone is no error; the same holds for delete_run."""

    def delete_run(self, namespace: str, name: str) -> None: ...

    def tell(self, rollout: Document, notice: Notice) -> None:
        """A Kubernetes event."""

    def ask(
        self, namespace: str, name: str, annotations: Mapping[str, str | None], paused: bool | None
    ) -> None:
        """Annotates the rollout, None takes one away; paused is spec.paused unless None."""
