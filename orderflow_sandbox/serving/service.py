"""Service and ConfigMap manifests as models, with Knative's own defaults.

Each field either holds here, or matters only in a cluster (`ClusterOnly`). Anything else is an error.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from orderflow_sandbox.serving.errors import problems
from orderflow_sandbox.serving.scale import Scale

AUTOSCALING = "autoscaling.knative.dev/"
VISIBILITY = "networking.knative.dev/visibility"
ALL_PERCENT = 100

Label = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
# Accepted and ignored: it changes what a pod may use, not how requests are served.
ClusterOnly = JsonValue


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class SecretKey(_Strict):
    """A key of a Secret or ConfigMap."""

    name: str
    key: str
    optional: bool = False


class ValueSource(_Strict):
    """`valueFrom`."""

    secret_key_ref: SecretKey | None = None
    config_map_key_ref: SecretKey | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError("give one of secretKeyRef and configMapKeyRef")
        return self


class Variable(_Strict):
    """An entry of `env`."""

    name: str
    value: str = ""
    value_from: ValueSource | None = None


class MapReference(_Strict):
    name: str
    optional: bool = False


class VariablesFrom(_Strict):
    """An entry of `envFrom`: all keys of a ConfigMap."""

    config_map_ref: MapReference
    prefix: str = ""


class Port(_Strict):
    """The port on which a container listens. The sandbox does not proxy h2c."""

    container_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    name: Literal["http1", ""] = ""
    protocol: Literal["TCP"] = "TCP"


class Mount(_Strict):
    """A file or folder that exists only in a pod."""

    name: str
    mount_path: str
    read_only: ClusterOnly = None
    sub_path: ClusterOnly = None


class Container(_Strict):
    """A revision has one container."""

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
    # Here an instance is ready when its port accepts connections, as with a tcpSocket probe.
    readiness_probe: ClusterOnly = None
    liveness_probe: ClusterOnly = None
    startup_probe: ClusterOnly = None

    @model_validator(mode="after")
    def _has_a_command(self) -> Self:
        if not self.command and not self.args:
            raise ValueError("command or args: the sandbox has no image to take an entry point from")
        return self

    @property
    def port(self) -> int:
        """The containerPort, or Knative's default."""
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
    """`spec.template.metadata`. Annotations of other systems are ignored."""

    name: Label | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Template(_Strict):
    """`spec.template`; each different one is a revision."""

    metadata: TemplateMeta = TemplateMeta()
    spec: RevisionSpec

    @model_validator(mode="after")
    def _scale_is_valid(self) -> Self:
        _ = self.scale
        return self

    @property
    def scale(self) -> Scale:
        """The autoscaling annotations. Raises ValueError where one is invalid."""
        annotations = {
            name.removeprefix(AUTOSCALING): value
            for name, value in self.metadata.annotations.items()
            if name.startswith(AUTOSCALING)
        }
        try:
            return Scale.model_validate(annotations)
        except ValidationError as error:
            field, reason = next(problems(error))
            raise ValueError(f"{AUTOSCALING}{field}: {reason}") from error

    @property
    def container(self) -> Container:
        return self.spec.containers[0]


class Target(_Strict):
    """An entry of `spec.traffic`: a named revision, or the latest one that is ready."""

    tag: Label | None = None
    revision_name: str | None = None
    latest_revision: bool | None = None
    percent: Annotated[int, Field(ge=0, le=100)] = 0

    @model_validator(mode="after")
    def _one_revision(self) -> Self:
        if self.revision_name and self.latest_revision:
            raise ValueError("revisionName and latestRevision: true exclude each other")
        if not self.revision_name and self.latest_revision is False:
            raise ValueError("latestRevision: false needs a revisionName")
        return self


def _sums_to_100(traffic: tuple[Target, ...]) -> tuple[Target, ...]:
    total = sum(target.percent for target in traffic)
    if traffic and total != ALL_PERCENT:
        raise ValueError(f"the percents sum to {total}, not 100")
    tags = [target.tag for target in traffic if target.tag]
    if len(tags) != len(set(tags)):
        raise ValueError("a tag is used twice")
    return traffic


Traffic = Annotated[tuple[Target, ...], AfterValidator(_sums_to_100)]
TO_LATEST: Traffic = (Target(latest_revision=True, percent=ALL_PERCENT),)


class ServiceSpec(_Strict):
    template: Template
    traffic: Traffic = TO_LATEST


class ServiceMeta(_Strict):
    name: Label
    namespace: Label | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _visibility_is_valid(self) -> Self:
        if self.labels.get(VISIBILITY, "cluster-local") != "cluster-local":
            raise ValueError(f"labels: {VISIBILITY} can only be cluster-local")
        return self


class Service(_Strict):
    api_version: Literal["serving.knative.dev/v1"]
    kind: Literal["Service"]
    metadata: ServiceMeta
    spec: ServiceSpec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def cluster_local(self) -> bool:
        """Whether the Service has no host name outside the cluster."""
        return VISIBILITY in self.metadata.labels


class ConfigMap(_Strict):
    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: ServiceMeta
    data: dict[str, str] = Field(default_factory=dict)
    immutable: ClusterOnly = None
