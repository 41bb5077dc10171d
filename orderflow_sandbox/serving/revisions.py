"""The revisions of each Service, their shares of its traffic, and the file that keeps both.

The rules are those of Knative's Configuration and Route. A changed template makes a new revision, a changed `traffic`
alone does not. The latest revision gets traffic only after it has been ready. A route changes only when every revision
that it names has been ready.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from orderflow_sandbox.serving.errors import ManifestError
from orderflow_sandbox.serving.service import Service, Target, Template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Share:
    """A revision's share of its Service's requests, in percent, and its tag if it has one."""

    revision: str
    percent: int
    tag: str | None = None


class Revision(BaseModel):
    """An immutable template. `ready` says whether a process of it has ever been ready."""

    name: str
    template: Template
    ready: bool = False


class ServiceState(BaseModel):
    """A Service as it was applied, its revisions from old to new, and the route in effect."""

    manifest: Service
    generation: int = 0
    revisions: list[Revision] = Field(default_factory=list)
    route: tuple[Share, ...] = ()

    def revision(self, name: str) -> Revision | None:
        return next((each for each in self.revisions if each.name == name), None)

    def apply(self, manifest: Service) -> bool:
        """Applies a manifest. Returns True where that made a new revision.

        Raises ManifestError where traffic names a revision that does not exist, or where another template already has
        the name of this one.
        """
        template = manifest.spec.template
        latest = self.revisions[-1] if self.revisions else None
        created = latest is None or latest.template != template
        names = [each.name for each in self.revisions]
        name = template.metadata.name or f"{manifest.name}-{self.generation + 1:05d}"
        if created and name in names:
            raise ManifestError(
                f"{manifest.name}: spec.template.metadata.name: {name} exists with another template"
            )
        if not name.startswith(f"{manifest.name}-"):
            raise ManifestError(
                f"{manifest.name}: spec.template.metadata.name: must begin with {manifest.name}-"
            )
        self._check(manifest.spec.traffic, [*names, name] if created else names)
        if created:
            self.generation += 1
            self.revisions.append(Revision(name=name, template=template))
        self.manifest = manifest
        self.update_route()
        return created

    def set_traffic(self, traffic: tuple[Target, ...]) -> None:
        """Replaces `spec.traffic`. Raises ManifestError where it names a revision that does not exist."""
        self._check(traffic, [each.name for each in self.revisions])
        spec = self.manifest.spec.model_copy(update={"traffic": traffic})
        self.manifest = self.manifest.model_copy(update={"spec": spec})
        self.update_route()

    def mark_ready(self, name: str) -> bool:
        """A process of the revision is ready. Returns True the first time."""
        revision = self.revision(name)
        if revision is None or revision.ready:
            return False
        revision.ready = True
        self.update_route()
        return True

    def update_route(self) -> None:
        """Sets the route to `spec.traffic`, unless that names a revision that has never been ready."""
        shares = tuple(self._shares(self.manifest.spec.traffic))
        if len(shares) == len(self.manifest.spec.traffic):
            self.route = shares

    def _shares(self, traffic: Iterable[Target]) -> Iterator[Share]:
        ready = [each.name for each in self.revisions if each.ready]
        for target in traffic:
            name = target.revision_name or (ready[-1] if ready else None)
            if name in ready:
                yield Share(name, target.percent, target.tag)

    def _check(self, traffic: Iterable[Target], names: list[str]) -> None:
        for index, target in enumerate(traffic):
            if target.revision_name and target.revision_name not in names:
                known = ", ".join(names) or "none"
                raise ManifestError(
                    f"{self.manifest.name}: spec.traffic[{index}].revisionName: "
                    f"{target.revision_name} does not exist (there are: {known})"
                )


class _Saved(BaseModel):
    services: dict[str, ServiceState] = Field(default_factory=dict)


@dataclass
class Revisions:
    """The state of all Services, written to one file after each change."""

    path: Path
    services: dict[str, ServiceState] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Revisions:
        """Reads the file, if it exists."""
        if not path.exists():
            return cls(path)
        return cls(path, _Saved.model_validate_json(path.read_bytes()).services)

    def apply(self, manifest: Service) -> bool:
        """As `ServiceState.apply`."""
        state = self.services.get(manifest.name) or ServiceState(manifest=manifest)
        created = state.apply(manifest)
        self.services[manifest.name] = state
        self.save()
        return created

    def save(self) -> None:
        """Writes the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".new")
        draft.write_text(
            _Saved(services=self.services).model_dump_json(by_alias=True, indent=1),
            encoding="utf-8",
        )
        os.replace(draft, self.path)  # noqa: PTH105  (Path.replace is the same call)
