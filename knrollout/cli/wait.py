"""Whether a release has ended, for `kn rollout status`: also where the controller has not seen it begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.objects import Service
from knrollout.cluster.reader import service_name, status_of

if TYPE_CHECKING:
    from knrollout.api.objects import Document
    from knrollout.api.status import Phase
    from knrollout.cluster.port import Cluster


def standing(cluster: Cluster, document: Document) -> tuple[Phase, str]:
    """The phase and why. A Service that was just changed is Progressing, whatever was said of the one before."""
    status, metadata = status_of(document), document["metadata"]
    if status.observed_generation != metadata["generation"]:
        return "Progressing", "the controller has not seen the rollout as it is now"
    found = cluster.service(metadata["namespace"], service_name(document) or "")
    if found is None:
        return status.phase, status.message
    service = Service.read(found)
    latest = service.latest_created
    if not service.settled:
        return "Progressing", "Knative has not seen the Service as it is now"
    known = {status.stable_revision, status.canary_revision}
    if latest is not None and latest not in known and status.last_attempt(latest) is None:
        return "Progressing", f"the controller has not seen {latest}"
    return status.phase, status.message
