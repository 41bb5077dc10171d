"""Whether a release has ended, for `kn rollout status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knrollout.api.objects import Service
from knrollout.api.rollout import service_name
from knrollout.api.visible_status import visible_status

if TYPE_CHECKING:
    from knrollout.api.objects import Document
    from knrollout.api.status import Phase
    from knrollout.cluster.port import Cluster


def release_phase(cluster: Cluster, document: Document) -> tuple[Phase, str]:
    """The phase and the reason for it. The phase is Progressing until the latest change and request are seen."""
    service = cluster.service(document["metadata"]["namespace"], service_name(document) or "")
    status = visible_status(document, Service.parse(service) if service is not None else None)
    return status.phase, status.message
