"""A KnativeRollout and its parts, parsed from the API server's JSON."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from knrollout.api.spec import Spec
from knrollout.api.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knrollout.api.objects import Document
    from knrollout.api.spec import Canary


@dataclass(frozen=True)
class Rollout:
    """A KnativeRollout with a valid spec."""

    name: str
    namespace: str
    uid: str
    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Spec
    status: Status = field(default_factory=Status)

    @property
    def canary(self) -> Canary:
        return self.spec.strategy.canary

    @property
    def steps_hash(self) -> str:
        """Identifies the steps and analyses. If they change, the release restarts."""
        strategy = self.canary.model_dump_json(include={"steps", "analysis"})
        return hashlib.sha256(strategy.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class InvalidSpec:
    """A KnativeRollout whose spec this controller does not support. Admission should have refused it."""

    status: Status
    message: str


def parse_rollout(document: Document) -> Rollout | InvalidSpec:
    metadata, status = document["metadata"], parse_status(document)
    try:
        spec = Spec.model_validate(document["spec"])
    except ValidationError as error:
        return InvalidSpec(status, "; ".join(spec_errors(error)))
    return Rollout(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        spec=spec,
        status=status,
    )


def parse_status(document: Document) -> Status:
    """An invalid status counts as lost: the controller then adopts the revision that serves now."""
    try:
        return Status.model_validate(document.get("status") or {})
    except ValidationError:
        return Status()


def spec_errors(error: ValidationError) -> list[str]:
    """One message for each invalid field: `spec.strategy.canary.steps.0: a step is exactly one of ...`."""
    messages = []
    for details in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in ("spec", *details["loc"]))
        message = "is not supported" if details["type"] == "extra_forbidden" else details["msg"]
        messages.append(f"{path}: {message.removeprefix('Value error, ')}")
    return messages


def service_name(document: Document) -> str | None:
    """The Service that the rollout refers to; None where the spec names none."""
    name = document["spec"].get("workloadRef", {}).get("name")
    return name if isinstance(name, str) else None
