"""The Service manifests the sandbox can run: `serving.knative.dev/v1`, read unchanged.

Whatever a manifest says either holds here, or only matters in a cluster and is
listed below as such, or is an error that names file and field. Defaults are
Knative's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

AUTOSCALING = "autoscaling.knative.dev/"
VISIBILITY = "networking.knative.dev/visibility"
SERVING_API = "serving.knative.dev/v1"
HPA = "hpa.autoscaling.knative.dev"
ONLY_IN_A_CLUSTER = frozenset(
    {
        # The sandbox keeps no schedule: one asks for a run. It migrates before it starts anything.
        ("CronJob", "batch/v1"),
        ("Job", "batch/v1"),
        # And it has no pods that could be kept apart, refused or drained.
        ("Namespace", "v1"),
        ("ServiceAccount", "v1"),
        ("NetworkPolicy", "networking.k8s.io/v1"),
        ("PodDisruptionBudget", "policy/v1"),
    }
)
"""What the sandbox leaves out."""
ALL_PERCENT = 100

Label = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
# Accepted and not looked at: it changes what a pod may use, not what is served.
ClusterOnly = JsonValue

_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


_Model = TypeVar("_Model", bound=BaseModel)


class ManifestError(ValueError):
    """A manifest says something that cannot hold here; the message names file and field."""


def _go_duration(text: object) -> float:
    """`1m30s` -> 90.0 seconds."""
    parts = _GO_DURATION.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise ValueError(f"{text!r} is not a duration such as 60s or 1m30s")
    return float(sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))


Duration = Annotated[float, BeforeValidator(_go_duration)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Scale(_Strict):
    """The `autoscaling.knative.dev/` annotations of a template. Durations in seconds."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )

    class_: Literal["kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"] = Field(
        default="kpa.autoscaling.knative.dev", alias="class"
    )
    metric: Literal["concurrency", "cpu"] = "concurrency"
    target: Annotated[float, Field(ge=0.01)] | None = None
    target_utilization_percentage: Annotated[float, Field(ge=1, le=100)] = 70
    # The sandbox's ingress is always the activator, which is what -1 asks for.
    target_burst_capacity: Annotated[float, Field(ge=-1)] = 211
    min_scale: Annotated[int, Field(ge=0)] = 0
    max_scale: Annotated[int, Field(ge=0)] = 0
    # 0 needs allow-zero-initial-scale, which clusters have off.
    initial_scale: Annotated[int, Field(ge=1)] = 1
    activation_scale: Annotated[int, Field(ge=1)] = 1
    window: Annotated[Duration, Field(ge=6, le=3600)] = 60.0
    scale_down_delay: Annotated[Duration, Field(ge=0, le=3600)] = 0.0
    scale_to_zero_pod_retention_period: Annotated[Duration, Field(ge=0, le=3600)] = 0.0
    panic_window_percentage: Annotated[float, Field(ge=1, le=100)] = 10
    panic_threshold_percentage: Annotated[float, Field(ge=110, le=1000)] = 200

    @property
    def by_cpu(self) -> bool:
        """Nobody measures CPU here: such a Service has its min-scale all the time."""
        return self.class_ == HPA

    @model_validator(mode="after")
    def _fits_its_class(self) -> Scale:
        metric = "cpu" if self.by_cpu else "concurrency"
        if self.metric != metric:
            raise ValueError(f"class {self.class_} goes with metric {metric} here, not {self.metric}")
        if self.by_cpu and self.min_scale < 1:
            raise ValueError(f"class {HPA} cannot go to zero: min-scale must be 1 or more")
        return self

    @model_validator(mode="after")
    def _min_below_max(self) -> Scale:
        if self.max_scale and self.min_scale > self.max_scale:
            raise ValueError(f"min-scale {self.min_scale} is above max-scale {self.max_scale}")
        return self


class SecretKey(_Strict):
    """One key of a Secret or ConfigMap."""

    name: str
    key: str
    optional: bool = False


class ValueSource(_Strict):
    """Where a variable's value comes from."""

    secret_key_ref: SecretKey | None = None
    config_map_key_ref: SecretKey | None = None

    @model_validator(mode="after")
    def _one(self) -> ValueSource:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError("give one of secretKeyRef and configMapKeyRef")
        return self


class Variable(_Strict):
    """One entry of `env`."""

    name: str
    value: str = ""
    value_from: ValueSource | None = None


class MapReference(_Strict):
    """The name in `envFrom`."""

    name: str
    optional: bool = False


class VariablesFrom(_Strict):
    """One entry of `envFrom`: a whole ConfigMap."""

    config_map_ref: MapReference
    prefix: str = ""


class Port(_Strict):
    """The port a container listens on; h2c is not proxied here."""

    container_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    name: Literal["http1", ""] = ""
    protocol: Literal["TCP"] = "TCP"


class Mount(_Strict):
    """A file or folder that exists only in the cluster's pods."""

    name: str
    mount_path: str
    read_only: ClusterOnly = None
    sub_path: ClusterOnly = None


class Container(_Strict):
    """The one container of a revision."""

    image: str
    name: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()
    env_from: tuple[VariablesFrom, ...] = ()
    ports: Annotated[tuple[Port, ...], Field(max_length=1)] = ()
    volume_mounts: tuple[Mount, ...] = ()
    resources: ClusterOnly = None
    security_context: ClusterOnly = None
    image_pull_policy: ClusterOnly = None
    # An instance is ready here when its port accepts, which is what a tcpSocket probe asks.
    readiness_probe: ClusterOnly = None
    liveness_probe: ClusterOnly = None
    startup_probe: ClusterOnly = None

    @model_validator(mode="after")
    def _says_what_to_run(self) -> Container:
        if not self.command and not self.args:
            raise ValueError("command or args: the sandbox has no image to take an entry point from")
        return self

    @property
    def port(self) -> int:
        """The port the manifest's arguments name."""
        return self.ports[0].container_port if self.ports else Port().container_port


class RevisionSpec(_Strict):
    """`spec.template.spec`."""

    containers: Annotated[tuple[Container, ...], Field(min_length=1, max_length=1)]
    container_concurrency: Annotated[int, Field(ge=0, le=1000)] = 0
    timeout_seconds: Annotated[int, Field(ge=1, le=600)] = 300
    service_account_name: ClusterOnly = None
    image_pull_secrets: ClusterOnly = None
    volumes: ClusterOnly = None
    security_context: ClusterOnly = None
    automount_service_account_token: ClusterOnly = None
    enable_service_links: ClusterOnly = None


class TemplateMeta(_Strict):
    """`spec.template.metadata`; annotations of other systems are not ours to judge."""

    name: Label | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Template(_Strict):
    """What makes a revision."""

    metadata: TemplateMeta = TemplateMeta()
    spec: RevisionSpec

    @model_validator(mode="after")
    def _scale_is_understood(self) -> Template:
        _ = self.scale
        return self

    @property
    def scale(self) -> Scale:
        """The autoscaling annotations, read."""
        found = {
            name.removeprefix(AUTOSCALING): value
            for name, value in self.metadata.annotations.items()
            if name.startswith(AUTOSCALING)
        }
        try:
            return Scale.model_validate(found)
        except ValidationError as error:
            field, reason = next(_problems(error))
            raise ValueError(f"{AUTOSCALING}{field}: {reason}") from error

    @property
    def container(self) -> Container:
        """The one container."""
        return self.spec.containers[0]


class Target(_Strict):
    """One entry of `spec.traffic`: a named revision, or the latest ready one."""

    tag: Label | None = None
    revision_name: str | None = None
    latest_revision: bool | None = None
    percent: Annotated[int, Field(ge=0, le=100)] = 0

    @model_validator(mode="after")
    def _one_revision(self) -> Target:
        if self.revision_name and self.latest_revision:
            raise ValueError("revisionName and latestRevision: true exclude each other")
        if not self.revision_name and self.latest_revision is False:
            raise ValueError("latestRevision: false needs a revisionName")
        return self


def _sums_to_all(traffic: tuple[Target, ...]) -> tuple[Target, ...]:
    total = sum(target.percent for target in traffic)
    if traffic and total != ALL_PERCENT:
        raise ValueError(f"the percents sum to {total}, not 100")
    tags = [target.tag for target in traffic if target.tag]
    if len(tags) != len(set(tags)):
        raise ValueError("a tag is used twice")
    return traffic


Traffic = Annotated[tuple[Target, ...], AfterValidator(_sums_to_all)]
TO_LATEST: Traffic = (Target(latest_revision=True, percent=ALL_PERCENT),)


_TRAFFIC: TypeAdapter[tuple[Target, ...]] = TypeAdapter(Traffic)


def checked_traffic(service: str, traffic: Iterable[Target]) -> tuple[Target, ...]:
    """Traffic that did not come in a manifest.

    Raises:
        ManifestError: percents that do not sum to 100, or a tag used twice.
    """
    try:
        return _TRAFFIC.validate_python(tuple(traffic))
    except ValidationError as error:
        reason = next(_problems(error))[1]
        raise ManifestError(f"{service}: spec.traffic: {reason}") from error


class ServiceSpec(_Strict):
    """`spec`."""

    template: Template
    traffic: Traffic = TO_LATEST


class ServiceMeta(_Strict):
    """`metadata`."""

    name: Label
    namespace: Label | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _visibility_is_known(self) -> ServiceMeta:
        if self.labels.get(VISIBILITY, "cluster-local") != "cluster-local":
            raise ValueError(f"labels: {VISIBILITY} can only be cluster-local")
        return self


class Service(_Strict):
    """A `serving.knative.dev/v1` Service."""

    api_version: Literal["serving.knative.dev/v1"]
    kind: Literal["Service"]
    metadata: ServiceMeta
    spec: ServiceSpec

    @property
    def name(self) -> str:
        """The Service's name, the first part of its host names."""
        return self.metadata.name

    @property
    def cluster_local(self) -> bool:
        """Whether it has no host name outside."""
        return VISIBILITY in self.metadata.labels


class ConfigMap(_Strict):
    """A ConfigMap, for `envFrom`."""

    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: ServiceMeta
    data: dict[str, str] = Field(default_factory=dict)
    immutable: ClusterOnly = None


@dataclass(frozen=True)
class Manifests:
    """What a file or a kustomize base holds for the sandbox."""

    services: tuple[Service, ...]
    config_maps: Mapping[str, Mapping[str, str]]


def load(path: Path) -> Manifests:
    """Read a YAML file, or the `resources` of a folder's kustomization.yaml.

    Raises:
        ManifestError: naming file and field.
    """
    services: list[Service] = []
    config_maps: dict[str, Mapping[str, str]] = {}
    for file in _files(path):
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ManifestError(f"{file}: {error.strerror}") from error
        found = parse(text, str(file))
        services.extend(found.services)
        config_maps.update(found.config_maps)
    return Manifests(tuple(services), config_maps)


def parse(text: str, file: str) -> Manifests:
    """Read the documents of one YAML text; `file` is named in errors.

    Raises:
        ManifestError: naming file and field.
    """
    services: list[Service] = []
    config_maps: dict[str, Mapping[str, str]] = {}
    for document in _documents(text, file):
        kind, version = document.get("kind"), document.get("apiVersion")
        if (kind, version) == ("Service", SERVING_API):
            services.append(_validated(Service, document, file))
        elif (kind, version) == ("ConfigMap", "v1"):
            found = _validated(ConfigMap, document, file)
            config_maps[found.metadata.name] = found.data
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
        said = "; ".join(f"{field}: {reason}" for field, reason in _problems(error))
        raise ManifestError(f"{file}: {said}") from error


def _problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    for problem in error.errors(include_url=False):
        where = ""
        for part in problem["loc"]:
            where += f"[{part}]" if isinstance(part, int) else f".{part}"
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            reason = "not supported by the sandbox"
        yield where.removeprefix("."), reason
