"""Everything a decision is made from: one reading of the cluster, and the time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from knrollout.api.requests import Requests
from knrollout.api.status import Status
from knrollout.decide.analysis import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knrollout.api.objects import Document, Revision, Run, Service
    from knrollout.api.spec import Analysis, Canary, Spec


@dataclass(frozen=True)
class Rollout:
    """A KnativeRollout whose spec is valid."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Spec
    status: Status = field(default_factory=Status)

    @property
    def canary(self) -> Canary:
        return self.spec.strategy.canary

    @property
    def steps_hash(self) -> str:
        """Of what a change of starts the release again."""
        parts = self.canary.model_dump_json(include={"steps", "analysis"})
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class View:
    """runs are those that the rollout owns. rival is an older rollout of the same Service."""

    rollout: Rollout
    service: Service | None
    revisions: Mapping[str, Revision]
    runs: Mapping[str, Run]
    templates: Mapping[tuple[bool, str], Document]
    now: datetime
    rival: str | None = None

    @property
    def requests(self) -> Requests:
        return Requests.read(self.rollout.annotations)

    @property
    def patience(self) -> timedelta:
        return timedelta(seconds=self.rollout.spec.progress_deadline_seconds)

    def ready(self, revision: str | None) -> bool:
        found = self.revisions.get(revision or "")
        return found is not None and found.ready

    def analyses(self) -> list[Analysis]:
        canary = self.rollout.canary
        steps = [step.analysis for step in canary.steps if step.analysis is not None]
        return [*steps, canary.analysis] if canary.analysis is not None else steps

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
        )
