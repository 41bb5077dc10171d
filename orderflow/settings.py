"""The settings of all stages, from environment variables and files. Nothing else in a stage reads the environment."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, Json, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orderflow.errors import BadSettingsError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

S = TypeVar("S", bound=BaseSettings)
M = TypeVar("M", bound=BaseModel)
D = TypeVar("D", bound="DatabaseSettings")

_MIN_SECRET_LENGTH: Final = 32


def _database_url(url: SecretStr) -> SecretStr:
    address = url.get_secret_value()
    if not address.startswith(("postgresql://", "postgres://")):
        raise PydanticCustomError("database_url", "it must begin with postgresql://")
    try:
        # libpq takes several hosts, of which urlsplit reads no port.
        _ = "," in urlsplit(address).netloc or urlsplit(address).port
    except ValueError:
        raise PydanticCustomError("database_url", "its host or port is no address") from None
    return url


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads a secret NAME from the file that the variable NAME_FILE names. Unlike an environment variable, a mounted
    file is in no description of a pod, and no child process inherits it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """Raises BadSettingsError where the file cannot be read, or the secret is in the environment as well."""
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE")
        if field.annotation not in {SecretStr, SecretStr | None} or not path:
            return None, field_name, False
        if os.environ.get(name):
            raise BadSettingsError(f"bad settings: {name}: {name}_FILE is set as well; unset one of them")
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise BadSettingsError(f"bad settings: {name}_FILE: cannot read {path}: {reason}") from None

    def __call__(self) -> dict[str, Any]:
        values = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {name: value for value, name, _ in values if value is not None}


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise PydanticCustomError("http_url", "it must begin with http:// or https://")
    return url


def _url_of_revision(url: str) -> str:
    if "{revision}" not in url:
        raise PydanticCustomError("url_of_revision", "it must have {revision} for the name of a revision")
    return _http_url(url)


class StageSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, hide_input_in_errors=True)

    k_revision: str = "local"
    """The name of the revision that this process belongs to. Knative sets the variable."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_http_url)] | None = None
    """The collector of traces, by OTLP over HTTP. Without it no trace is recorded. OpenTelemetry's exporter reads
    the other variables that begin with OTEL_EXPORTER_OTLP_ and OTEL_BSP_ (headers, certificates, batch sizes)."""
    otel_traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The recorded share of new traces. For a trace that began elsewhere, its traceparent decides."""

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
    """librdkafka properties, one `name=value` per line (for TLS and SASL, from a mounted secret)."""
    # librdkafka treats 0 ms as no limit.
    kafka_ack_seconds: Annotated[float, Field(ge=0.1, le=60)] = 10


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Which OIDC tokens a stage accepts, and where the issuer's keys are."""

    issuer: str
    audience: str
    subjects: frozenset[str]
    jwks_url: str | None
    ca_file: Path | None
    token_file: Path | None


class SenderSettings(StageSettings):
    """For the stages that KafkaSource sends events to. Without OIDC settings a stage takes events from any sender."""

    oidc_issuer: Annotated[str, AfterValidator(_http_url)] | None = None
    """Exactly as the tokens name it (`iss`)."""
    oidc_audience: str | None = None
    oidc_subjects: str | None = None
    """The service accounts that may send, separated by spaces."""
    oidc_jwks_url: Annotated[str, AfterValidator(_http_url)] | None = None
    """Default: what the issuer's discovery document names."""
    oidc_ca_file: Path | None = None
    """The CA of the server that has the keys. Default: the CAs of the system."""
    oidc_token_file: Path | None = None
    """The token that the stage sends when it fetches the keys. Read at each request."""

    def token_rules(self) -> TokenRules | None:
        """None where no OIDC setting is set. Raises BadSettingsError, which names what is missing."""
        required = {
            "OIDC_ISSUER": self.oidc_issuer,
            "OIDC_AUDIENCE": self.oidc_audience,
            "OIDC_SUBJECTS": self.oidc_subjects and self.oidc_subjects.split(),
        }
        optional = (self.oidc_jwks_url, self.oidc_ca_file, self.oidc_token_file)
        if not any((*required.values(), *optional)):
            return None
        missing = [name for name, value in required.items() if not value]
        if missing:
            raise BadSettingsError(
                f"bad settings: {', '.join(missing)}: required with the other OIDC settings"
            )
        return TokenRules(
            issuer=self.oidc_issuer or "",
            audience=self.oidc_audience or "",
            subjects=frozenset((self.oidc_subjects or "").split()),
            jwks_url=self.oidc_jwks_url,
            ca_file=self.oidc_ca_file,
            token_file=self.oidc_token_file,
        )


class ParkSettings(SenderSettings, KafkaSettings):
    pass


class SourceSettings(SenderSettings, KafkaSettings):
    """For the stages that a KafkaSource feeds."""

    hold_from_partition: Annotated[int, Field(ge=1)] | None = None
    """Events of this partition and of higher ones get a 503 (docs/how-to/add-partitions.md)."""
    event_seconds: Annotated[float, Field(gt=0, le=600)] = 20
    """How long the stage may take for one event. It must be less than `delivery.timeout` of the stage's KafkaSource,
    so that the stage has given an event up before the event comes again."""


class JudgingSettings(SourceSettings):
    """For the stages that answer /judge."""

    oidc_judge_subjects: str | None = None
    """The service accounts that may have an event judged, separated by spaces. They may send no event."""

    def judge_token_rules(self) -> TokenRules | None:
        """None where no OIDC setting is set. Without OIDC_JUDGE_SUBJECTS, the rules accept nobody."""
        rules = self.token_rules()
        subjects = frozenset((self.oidc_judge_subjects or "").split())
        return None if rules is None else replace(rules, subjects=subjects)


class DatabaseSettings(StageSettings):
    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    """Or DATABASE_URL_FILE, a file that has the URL."""
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    database_wait_seconds: Annotated[float, Field(gt=0, le=60)] = 5
    """How long to wait for a connection."""
    database_statement_seconds: Annotated[float, Field(gt=0, le=600)] = 10
    """How long one use of a connection may take. The server ends the statement. Where the server does not answer, the
    stage closes the connection two seconds later."""
    database_transaction_pooling: bool = False
    """The URL leads to a pool that gives a connection for one transaction only, as PgBouncer does in transaction mode.
    The audit and the migrations need a URL that does not: their lock belongs to a session."""


class ApiKeySettings(StageSettings):
    """For the stages that need an API key."""

    api_keys_file: Path | None = None
    local_run: bool = False
    """Serve without API keys; on a developer's machine only."""


class IntakeSettings(ApiKeySettings, KafkaSettings):
    rules_file: Path
    public_url: str = ""
    """The address of query, with which the Location of an accepted order begins."""


class ValidateSettings(JudgingSettings):
    rules_file: Path


class TrackSettings(DatabaseSettings, JudgingSettings):
    rules_file: Path


class ShelveSettings(DatabaseSettings, SourceSettings):
    pass


class NotifySettings(DatabaseSettings, SourceSettings):
    event_seconds: Annotated[float, Field(gt=0, le=600)] = 45
    """As for the other stages; mail servers and webhooks may be slow."""
    notifications_file: Path
    claim_seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    """The lease of a claim. After it, another process may take over a notification that was not confirmed."""
    smtp_url: str | None = None
    """Overrides `email.smtp_url` of the notifications file."""


class AuditSettings(DatabaseSettings, KafkaSettings):
    notifications_file: Path
    audit_grace_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    """The age from which a record is judged. A younger record may still be in flight."""
    audit_settle_seconds: Annotated[float, Field(ge=0, le=600)] = 20
    """How long a run waits for a stage that lags before it leaves the judgement to a later run. KafkaSource commits
    every 5 s."""
    audit_seconds: Annotated[float, Field(gt=0, le=3600)] = 240
    """How long one run reads; the next run continues there. It must be less than the Service's timeoutSeconds."""
    audit_republish_per_second: Annotated[int, Field(ge=1, le=10_000)] = 100


Permission = Literal["read", "act", "reveal", "release"]
"""What a caller of query may do: see orders and parked events with personal data masked, do what operators do, see
personal data, control releases."""


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """How people log in at the console. public_url has no slash at its end. roles: the permissions by the value of the
    claim. A claim's name may be a path with dots. secure: the console is served over HTTPS."""

    issuer: str
    client_id: str
    client_secret: SecretStr
    public_url: str
    session_secret: SecretStr
    roles: dict[str, tuple[Permission, ...]]
    roles_claim: str
    scopes: str
    session_hours: float
    secure: bool


class QuerySettings(ApiKeySettings, DatabaseSettings, KafkaSettings):
    rules_file: Path | None = None
    """Has the limits after which an order counts as stuck. Without it, the default limits hold."""
    audit_url: str | None = None
    """The address of the audit's Service, for audits that operators start."""
    prometheus_url: Annotated[str, AfterValidator(_http_url)] | None = None
    """The address of the Prometheus that scrapes the queue-proxies. Without it, nobody sees whether a new revision of
    intake or park answers 2xx for events that it does not publish."""
    shadow_url: Annotated[str, AfterValidator(_url_of_revision)] | None = None
    """The address of a revision, with {revision} for its name: a release's stable revision judges what the canary has
    judged. Without it, nothing is compared."""
    shadow_token_file: str | None = None
    """The file that has the token which query sends to a stage, with {stage} for the stage's name. Read at each
    request."""
    rollouts: bool = False
    """Show the rollouts of releases and let operators control them; needs the packages and rights of argo/console."""
    database_statement_seconds: Annotated[float, Field(gt=0, le=600)] = 5
    """The database's time limit for one statement."""
    public_url: Annotated[str, AfterValidator(_http_url)] | None = None
    """The address at which people open the console. The issuer sends them back to it."""
    console_oidc_issuer: Annotated[str, AfterValidator(_http_url)] | None = None
    """The OpenID Connect issuer at which people log in. Without it, the console takes API keys only."""
    console_oidc_client_id: str | None = None
    console_oidc_client_secret: SecretStr | None = None
    """Or CONSOLE_OIDC_CLIENT_SECRET_FILE."""
    console_oidc_roles: Json[dict[str, tuple[Permission, ...]]] | None = None
    """Which permissions each value of the claim gives, in JSON: {"support": ["read"], "operators": ["act"]}."""
    console_oidc_roles_claim: Annotated[str, Field(min_length=1)] = "roles"
    console_oidc_scopes: str = "openid email profile"
    console_session_secret: SecretStr | None = None
    """Signs the session cookies: at least 32 characters. Or CONSOLE_SESSION_SECRET_FILE."""
    console_session_hours: Annotated[float, Field(gt=0, le=168)] = 8
    """How long a login lasts. A role that the issuer takes away ends with it."""
    threads: Annotated[int, Field(ge=1)] = Field(default_factory=lambda: (os.cpu_count() or 1) * 4)
    """How many requests the Functions Framework answers at the same time. The variable and the default are its own."""

    @property
    def live_streams(self) -> int:
        """How many streams may stay open: half of the threads, so that a thread is always free for a page."""
        return self.threads // 2

    def login(self) -> LoginSettings | None:
        """None where nobody logs in. Raises BadSettingsError where some settings of the login are missing or unsafe."""
        issuer, public_url, secret = self.console_oidc_issuer, self.public_url, self.console_session_secret
        client_id, client_secret = self.console_oidc_client_id, self.console_oidc_client_secret
        roles = self.console_oidc_roles
        if not (issuer or client_id or client_secret or roles or secret):
            return None
        if not (issuer and client_id and client_secret and roles and secret and public_url):
            values = {
                "CONSOLE_OIDC_ISSUER": issuer,
                "CONSOLE_OIDC_CLIENT_ID": client_id,
                "CONSOLE_OIDC_CLIENT_SECRET": client_secret,
                "CONSOLE_OIDC_ROLES": roles,
                "CONSOLE_SESSION_SECRET": secret,
                "PUBLIC_URL": public_url,
            }
            missing = [
                f"{name}: required for logins at the console" for name, value in values.items() if not value
            ]
            raise BadSettingsError("bad settings: " + "; ".join(missing))
        if len(secret.get_secret_value()) < _MIN_SECRET_LENGTH:
            text = f"it must have at least {_MIN_SECRET_LENGTH} characters"
            raise BadSettingsError(f"bad settings: CONSOLE_SESSION_SECRET: {text}")
        for name, address in (("CONSOLE_OIDC_ISSUER", issuer), ("PUBLIC_URL", public_url)):
            if not (self.local_run or address.startswith("https://")):
                raise BadSettingsError(f"bad settings: {name}: it must begin with https://")
        if "openid" not in self.console_oidc_scopes.split():
            raise BadSettingsError("bad settings: CONSOLE_OIDC_SCOPES: openid is missing")
        return LoginSettings(
            issuer=issuer,
            client_id=client_id,
            client_secret=client_secret,
            public_url=public_url.rstrip("/"),
            session_secret=secret,
            roles=roles,
            roles_claim=self.console_oidc_roles_claim,
            scopes=self.console_oidc_scopes,
            session_hours=self.console_session_hours,
            secure=public_url.startswith("https://"),
        )


def load(kind: type[S]) -> S:
    """The settings from the environment. Raises BadSettingsError, which names every faulty setting."""
    try:
        return kind()
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        parts = (f"{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in faults)
        raise BadSettingsError("bad settings: " + "; ".join(parts)) from None


def load_with_session(kind: type[D]) -> D:
    """As load(), for what takes a lock of a database session. Raises BadSettingsError also where the database is behind
    a transaction pool, which would give the lock to somebody else."""
    config = load(kind)
    if config.database_transaction_pooling:
        raise BadSettingsError(
            "bad settings: DATABASE_TRANSACTION_POOLING: this needs a lock of its session; give it a DATABASE_URL"
            " that leads to PostgreSQL itself, or to a pool of sessions"
        )
    return config


def read_toml(kind: type[M], path: Path, setting: str) -> M:
    """A TOML file as a model. Raises BadSettingsError, which names the setting, the file and every faulty field."""
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
