"""KafkaSource manifests (`sources.knative.dev/v1`) as models, with KafkaSource's own defaults.

An unknown or invalid field is an error that names the file and the field: a cluster would refuse it or, worse, ignore
it.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from orderflow.errors import BadSettingsError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_TIMEOUT = timedelta(seconds=600)
# For a delivery block with `retry` and without `backoffDelay`.
DEFAULT_BACKOFF_DELAY = timedelta(milliseconds=200)

_DURATION = re.compile(
    r"P(?=.)(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?",
)
_EXTENSION = re.compile(r"[a-z0-9]+")
_KEY_TYPE_LABEL = "kafkasources.sources.knative.dev/key-type"


def _duration(value: object) -> timedelta:
    """ISO 8601, as in `PT0.3S`. Years and months are refused, since they have no fixed length."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not an ISO 8601 duration such as PT0.5S")
    return timedelta(**{unit: float(amount) for unit, amount in match.groupdict("0").items()})


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=False
    )


class Reference(_Part):
    """A sink's `ref`. Only the address of a Service follows from its name."""

    api_version: Literal["serving.knative.dev/v1", "v1"]
    kind: Literal["Service"]
    name: str = Field(min_length=1)
    namespace: str | None = None


class Destination(_Part):
    """A sink: `ref`, `uri`, or `ref` with a `uri` relative to it. audience: Eventing sends a token for it."""

    ref: Reference | None = None
    uri: str | None = None
    audience: str | None = None

    @model_validator(mode="after")
    def _addresses_something(self) -> Self:
        if self.ref is None and self.uri is None:
            raise ValueError("needs ref or uri")
        absolute = self.uri is not None and re.match(r"https?://[^/]", self.uri) is not None
        if self.ref is None and not absolute:
            raise ValueError("a uri without ref must be absolute")
        if self.ref is not None and absolute:
            raise ValueError("a uri beside ref must be relative")
        return self


class Delivery(_Part):
    """A `delivery` block. Without `retry` there are no retries at all."""

    dead_letter_sink: Destination | None = None
    retry: int = Field(default=0, ge=0)
    backoff_policy: Literal["exponential", "linear"] = "exponential"
    backoff_delay: Duration = DEFAULT_BACKOFF_DELAY
    timeout: Duration = DEFAULT_TIMEOUT

    @field_validator("timeout")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("must be longer than zero")
        return value


WITHOUT_DELIVERY_BLOCK = Delivery.model_construct(
    dead_letter_sink=None,
    retry=10,
    backoff_policy="exponential",
    backoff_delay=timedelta(milliseconds=300),
    timeout=DEFAULT_TIMEOUT,
)


class Overrides(_Part):
    """`ceOverrides`: extensions that are set on every event and override its own."""

    extensions: dict[str, str] = Field(default_factory=dict)

    @field_validator("extensions")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _EXTENSION.fullmatch(name):
                raise ValueError(f"{name!r} is no CloudEvents extension name ([a-z0-9]+)")
        return value


class Sasl(_Part):
    enable: bool = False
    user: dict[str, Any] | None = None
    password: dict[str, Any] | None = None
    type: dict[str, Any] | None = None


class Tls(_Part):
    enable: bool = False
    cert: dict[str, Any] | None = None
    key: dict[str, Any] | None = None
    ca_cert: dict[str, Any] | None = None


class Net(_Part):
    sasl: Sasl = Sasl()
    tls: Tls = Tls()


class Spec(_Part):
    bootstrap_servers: list[str] = Field(min_length=1)
    topics: list[str] = Field(min_length=1)
    consumer_group: str | None = Field(default=None, min_length=1)
    consumers: int = Field(default=1, ge=0)
    initial_offset: Literal["earliest", "latest"] = "latest"
    ordering: Literal["ordered", "unordered"] = "ordered"
    ce_overrides: Overrides = Overrides()
    delivery: Delivery = WITHOUT_DELIVERY_BLOCK
    net: Net = Net()
    sink: Destination


class Metadata(_Part):
    name: str = Field(min_length=1)
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _string_keys(cls, value: dict[str, str]) -> dict[str, str]:
        if value.get(_KEY_TYPE_LABEL, "string") != "string":
            raise ValueError(f"{_KEY_TYPE_LABEL}: only string keys are supported here")
        return value


class KafkaSource(_Part):
    api_version: Literal["sources.knative.dev/v1"]
    kind: Literal["KafkaSource"]
    metadata: Metadata
    spec: Spec


def read_manifests(folder: Path) -> list[KafkaSource]:
    """The KafkaSources in the folder's YAML files, in the order of the file names.

    A kustomization is skipped. Any other kind is an error, since it may be a typing error. Raises BadSettingsError.
    """
    sources: list[KafkaSource] = []
    problems: list[str] = []
    files = sorted(file for file in folder.glob("*.y*ml") if file.is_file())
    for file in files:
        try:
            documents = [document for document in yaml.safe_load_all(file.read_text("utf-8")) if document]
        except yaml.YAMLError as error:
            problems.append(f"{file}: not YAML: {error}")
            continue
        for document in documents:
            if isinstance(document, dict) and document.get("kind") == "Kustomization":
                continue
            try:
                sources.append(KafkaSource.model_validate(document))
            except ValidationError as error:
                problems += [f"{file}: {_field(each['loc'])}: {each['msg']}" for each in error.errors()]
    names = [source.metadata.name for source in sources]
    problems += [f"{folder}: two KafkaSources named {name}" for name in set(names) if names.count(name) > 1]
    if problems:
        raise BadSettingsError("\n".join(problems))
    if not sources:
        raise BadSettingsError(f"{folder}: no KafkaSource manifest")
    return sources


def _field(path: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in path) or "manifest"
