"""Everything that a stage is told from outside. The one place that reads the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orderflow.errors import BadSettingsError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=BaseSettings)
M = TypeVar("M", bound=BaseModel)


def _database_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise PydanticCustomError("database_url", "this begins with postgresql://")
    return url


class _SecretFiles(PydanticBaseSettingsSource):
    """Of a secret NAME, the file that NAME_FILE names: a mounted secret shows in no description of a pod, and no
    child process inherits it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """Raises BadSettingsError where the file cannot be read, or the secret is in the environment as well."""
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE")
        if field.annotation is not SecretStr or not path:
            return None, field_name, False
        if os.environ.get(name):
            raise BadSettingsError(f"bad settings: {name}: {name}_FILE is set as well; which one holds?")
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise BadSettingsError(f"bad settings: {name}_FILE: cannot read {path}: {reason}") from None

    def __call__(self) -> dict[str, Any]:
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {name: value for value, name, _ in found if value is not None}


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise PydanticCustomError("http_url", "this begins with http:// or https://")
    return url


class StageSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, hide_input_in_errors=True)

    k_revision: str = "local"
    """Knative sets it: the name of the revision that this process belongs to."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_http_url)] | None = None
    """Where traces go, by OTLP over HTTP; without it there are none. What else begins with OTEL_EXPORTER_OTLP_ and
    OTEL_BSP_ (headers, certificates, sizes of batches) OpenTelemetry's exporter reads itself."""
    otel_traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The part of new traces that is recorded; a trace that comes from outside brings the decision along."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, file_secret_settings, _SecretFiles(settings_cls)


class KafkaSettings(StageSettings):
    kafka_bootstrap: str
    kafka_config_file: Path | None = None
    """librdkafka properties, a `name=value` a line (TLS and SASL, from a mounted secret)."""
    # 0 ms would mean to librdkafka: for ever.
    kafka_ack_seconds: Annotated[float, Field(ge=0.1, le=60)] = 10


class SourceSettings(KafkaSettings):
    """Of the stages that a KafkaSource feeds."""

    hold_from_partition: Annotated[int, Field(ge=1)] | None = None
    """Events of this partition and those after it are refused for now: docs/how-to/add-partitions.md."""


class DatabaseSettings(StageSettings):
    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    """Or DATABASE_URL_FILE, a file that holds it."""
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    database_wait_seconds: Annotated[float, Field(gt=0, le=60)] = 5


class ApiKeySettings(StageSettings):
    """Of the stages that outsiders call."""

    api_keys_file: Path | None = None
    local_run: bool = False
    """Serve without API keys: for one's own machine only."""


class IntakeSettings(ApiKeySettings, KafkaSettings):
    rules_file: Path
    public_url: str = ""
    """What the Location of an accepted order begins with: the address of query."""


class ValidateSettings(SourceSettings):
    rules_file: Path


class TrackSettings(DatabaseSettings, SourceSettings):
    rules_file: Path


class ShelveSettings(DatabaseSettings, SourceSettings):
    pass


class NotifySettings(DatabaseSettings, SourceSettings):
    notifications_file: Path
    claim_seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    """After how long a claim of a notification that was not confirmed may be taken over."""
    smtp_url: str | None = None
    """Takes the place of the notifications file's `email.smtp_url`."""


class AuditSettings(DatabaseSettings, KafkaSettings):
    notifications_file: Path
    audit_grace_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    """How old a record must be to be judged: what is younger may be under way."""
    audit_settle_seconds: Annotated[float, Field(ge=0, le=600)] = 20
    """How long to wait for stages that are behind before a judgement is put off; KafkaSource commits every 5 s."""
    audit_seconds: Annotated[float, Field(gt=0, le=3600)] = 240
    """How long one run reads; the next goes on from there. Below the Service's timeoutSeconds."""
    audit_republish_per_second: Annotated[int, Field(ge=1, le=10_000)] = 100


class QuerySettings(ApiKeySettings, DatabaseSettings, KafkaSettings):
    rules_file: Path | None = None
    """For the limits after which an order counts as stuck; without it they are the defaults."""
    audit_url: str | None = None
    """Where an audit is asked for: the address of the audit's Service."""
    rollouts: bool = False
    """Show releases on their way and let operators steer them: needs the packages and the rights of argo/console."""
    statement_seconds: Annotated[float, Field(gt=0, le=300)] = 5
    """After how long the database gives up on a question."""
    threads: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: (os.cpu_count() or 1) * 4)
    """How many requests the Functions Framework answers at once; the variable and the default are its own."""

    @property
    def live_streams(self) -> int:
        """How many of them may be streams that stay open: half, so that there is always a thread for a page."""
        return self.threads // 2


def load(kind: type[S]) -> S:
    """The settings from the environment. Raises BadSettingsError naming every setting at fault."""
    try:
        return kind()
    except ValidationError as error:
        raise BadSettingsError(_sentence(error.errors(include_input=False, include_url=False))) from None


def _sentence(faults: list[ErrorDetails]) -> str:
    parts = [f"{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in faults]
    return "bad settings: " + "; ".join(parts)


def read_toml(kind: type[M], path: Path, setting: str) -> M:
    """A TOML file as a model. Raises BadSettingsError naming the setting, the file and the fields at fault."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise BadSettingsError(f"{setting}: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettingsError(f"{setting}: {path} is not TOML: {error}") from None
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        parts = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        raise BadSettingsError(f"{setting}: {path}: {parts}") from None
