"""Whether a release has ended, for `kn rollout status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.objects import Service
from knrollout.api.rollout import parse_status, service_name

if TYPE_CHECKING:
    from knrollout.api.objects import Document
    from knrollout.api.status import Phase
    from knrollout.cluster.port import Cluster


def release_phase(cluster: Cluster, document: Document) -> tuple[Phase, str]:
    """The phase and the reason for it.

    While Knative or the controller has not yet observed the latest change, the phase is Progressing: the status then
    still belongs to the previous release.
    """
    status, metadata = parse_status(document), document["metadata"]
    if status.observed_generation != metadata["generation"]:
        return "Progressing", "the controller has not seen the rollout as it is now"
    service_document = cluster.service(metadata["namespace"], service_name(document) or "")
    if service_document is None:
        return status.phase, status.message
    service = Service.parse(service_document)
    latest = service.latest_created_revision
    if not service.settled:
        return "Progressing", "Knative has not seen the Service as it is now"
    current = {status.stable_revision, status.canary_revision}
    if latest is not None and latest not in current and status.last_attempt(latest) is None:
        return "Progressing", f"the controller has not seen {latest}"
    return status.phase, status.message
