"""Reads the manifests that the sandbox runs, unchanged: one file, or the resources of a kustomization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from orderflow_sandbox.serving.errors import ManifestError, problems
from orderflow_sandbox.serving.service import ConfigMap, Service, Target, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SERVING_API = "serving.knative.dev/v1"
ONLY_IN_A_CLUSTER = frozenset(
    {
        # The sandbox has no schedule: a run is asked for. And it migrates before it starts anything.
        ("CronJob", "batch/v1"),
        ("Job", "batch/v1"),
        # It has no pods that could be isolated, refused or drained.
        ("Namespace", "v1"),
        ("ServiceAccount", "v1"),
        ("NetworkPolicy", "networking.k8s.io/v1"),
        ("PodDisruptionBudget", "policy/v1"),
    }
)
"""Kinds that are skipped."""

_Model = TypeVar("_Model", bound=BaseModel)
_TRAFFIC: TypeAdapter[tuple[Target, ...]] = TypeAdapter(Traffic)


@dataclass(frozen=True)
class Manifests:
    """The Services and ConfigMaps of a file or a kustomize base."""

    services: tuple[Service, ...]
    config_maps: Mapping[str, Mapping[str, str]]


def load(path: Path) -> Manifests:
    """Reads a YAML file, or the `resources` of a folder's kustomization.yaml. Raises ManifestError."""
    services: list[Service] = []
    config_maps: dict[str, Mapping[str, str]] = {}
    for file in _files(path):
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ManifestError(f"{file}: {error.strerror}") from error
        manifests = parse(text, str(file))
        services.extend(manifests.services)
        config_maps.update(manifests.config_maps)
    return Manifests(tuple(services), config_maps)


def parse(text: str, file: str) -> Manifests:
    """Reads the documents of a YAML text. Raises ManifestError, whose message names `file` and the field."""
    services: list[Service] = []
    config_maps: dict[str, Mapping[str, str]] = {}
    for document in _documents(text, file):
        kind, version = document.get("kind"), document.get("apiVersion")
        if (kind, version) == ("Service", SERVING_API):
            services.append(_validated(Service, document, file))
        elif (kind, version) == ("ConfigMap", "v1"):
            config_map = _validated(ConfigMap, document, file)
            config_maps[config_map.metadata.name] = config_map.data
        elif (kind, version) in ONLY_IN_A_CLUSTER:
            continue
        else:
            raise ManifestError(f"{file}: kind: {version} {kind} is not served by the sandbox")
    return Manifests(tuple(services), config_maps)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    listing = path / "kustomization.yaml"
    if not listing.is_file():
        raise ManifestError(f"{path}: a folder needs a kustomization.yaml")
    for document in _documents(listing.read_text(encoding="utf-8"), str(listing)):
        for name in document.get("resources", []):
            yield from _files(path / str(name))


def _documents(text: str, file: str) -> list[dict[str, Any]]:
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"{file}: not YAML: {error}") from error
    for document in documents:
        if not isinstance(document, dict):
            raise ManifestError(f"{file}: a document is {type(document).__name__}, not a mapping")
    return documents


def _validated(model: type[_Model], document: Mapping[str, Any], file: str) -> _Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        reasons = "; ".join(f"{field}: {reason}" for field, reason in problems(error))
        raise ManifestError(f"{file}: {reasons}") from error


def checked_traffic(service: str, traffic: Iterable[Target]) -> tuple[Target, ...]:
    """Validates traffic that is not from a manifest.

    Raises ManifestError where the percents do not sum to 100 or a tag is used twice.
    """
    try:
        return _TRAFFIC.validate_python(tuple(traffic))
    except ValidationError as error:
        reason = next(problems(error))[1]
        raise ManifestError(f"{service}: spec.traffic: {reason}") from error
