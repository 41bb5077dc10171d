"""The input of a decision: the cluster's state at one time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from knrollout.api.requests import Requests
from knrollout.decide.analysis import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knrollout.api.objects import AnalysisRun, ContainerEnd, Document, Revision, Service
    from knrollout.api.rollout import Rollout
    from knrollout.api.status import Status
    from knrollout.decide.analysis import TemplateKey


@dataclass(frozen=True)
class Snapshot:
    """runs are the AnalysisRuns that the rollout owns. templates are the specs of the analysis templates that it uses.

    ended: the containers of the Service's pods that ended and are to start again.
    owner: the older rollout that the Service belongs to, None if the Service belongs to this one.
    """

    rollout: Rollout
    service: Service | None
    revisions: Mapping[str, Revision]
    runs: Mapping[str, AnalysisRun]
    templates: Mapping[TemplateKey, Document]
    now: datetime
    owner: str | None = None
    ended: tuple[ContainerEnd, ...] = ()

    @property
    def requests(self) -> Requests:
        return Requests.parse(self.rollout.annotations)

    @property
    def progress_deadline(self) -> timedelta:
        return timedelta(seconds=self.rollout.spec.progress_deadline_seconds)

    def is_ready(self, name: str | None) -> bool:
        revision = self.revisions.get(name or "")
        return revision is not None and revision.ready

    def subject(self, status: Status) -> Subject:
        return Subject(
            rollout=self.rollout.name,
            namespace=self.rollout.namespace,
            uid=self.rollout.uid,
            labels=self.rollout.labels,
            annotations=self.rollout.annotations,
            stable=status.stable_revision or "",
            canary=status.canary_revision or "",
            attempt=status.attempt,
            status={
                "canaryStartedAt": _rfc3339(status.canary_started_at),
                "weightChangedAt": _rfc3339(status.weight_changed_at),
                "weight": str(status.weight),
            },
        )


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
