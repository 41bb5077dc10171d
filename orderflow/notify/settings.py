"""The notifications file (NOTIFICATIONS_FILE): which channels a shop uses, and which status events each one gets."""

from __future__ import annotations

from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Self, get_args

from pydantic import AfterValidator, Field, HttpUrl, StringConstraints, UrlConstraints, model_validator
from pydantic_core import PydanticCustomError, Url

from orderflow.domain.orders import Frozen, Text
from orderflow.errors import BadSettingsError
from orderflow.notify.model import CustomerKind, StatusKind
from orderflow.settings import read_toml

SmtpUrl = Annotated[Url, UrlConstraints(allowed_schemes=["smtp", "smtps"], host_required=True)]


def _mailbox(text: str) -> str:
    if not text.isprintable() or "@" not in parseaddr(text)[1]:
        raise PydanticCustomError("mailbox", "this is not of the form `Name <address@domain>`")
    return text


class Shop(Frozen):
    name: Text
    url: HttpUrl


class Email(Frozen):
    """smtp_url is `smtp://host:port` or `smtps://host:port`, without user or password.

    starttls: whether STARTTLS must succeed before anything is sent. The default is true for every server except one
    on this machine. password_file holds the password and nothing else; a relative path starts at the notifications
    file.
    """

    sender: Annotated[str, AfterValidator(_mailbox), Field(alias="from")]
    smtp_url: SmtpUrl
    starttls: bool | None = None
    user: str | None = None
    password_file: Path | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10
    connections: Annotated[int, Field(ge=1, le=100)] = 4
    kinds: frozenset[CustomerKind] = frozenset(get_args(CustomerKind))

    @model_validator(mode="after")
    def _the_password_stays_secret(self) -> Self:
        if self.smtp_url.username or self.smtp_url.password or self.smtp_url.path not in {None, "", "/"}:
            raise PydanticCustomError(
                "smtp_url", "smtp_url is scheme, host and port only: use user, password_file"
            )
        if (self.user is None) != (self.password_file is None):
            raise PydanticCustomError("smtp_login", "user and password_file go together")
        if self.user is not None and not self.upgrades and self.smtp_url.scheme == "smtp":
            raise PydanticCustomError("smtp_login", "a password needs starttls or smtps")
        return self

    @property
    def upgrades(self) -> bool:
        """Whether STARTTLS must succeed."""
        if self.smtp_url.scheme == "smtps":
            return False
        local = self.smtp_url.host in {"localhost", "127.0.0.1", "[::1]"}
        return not local if self.starttls is None else self.starttls


class Webhook(Frozen):
    """One endpoint. Claims are stored under its name, so an endpoint that is renamed counts as a new endpoint.

    secret_file holds one `whsec_...` per line. Every secret signs, so that keys can be rotated without a gap.
    allow_private permits an address inside our own network, and plain http.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    url: HttpUrl
    secret_file: Path
    kinds: frozenset[StatusKind] = frozenset(get_args(StatusKind))
    allow_private: bool = False
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10

    @model_validator(mode="after")
    def _the_public_network_is_crossed_encrypted(self) -> Self:
        if self.url.scheme != "https" and not self.allow_private:
            raise PydanticCustomError("webhook_url", "only an endpoint with allow_private may be plain http")
        return self


class NotificationSettings(Frozen):
    """Without `email` no e-mails are sent, without `webhooks` no webhooks."""

    shop: Shop
    email: Email | None = None
    webhooks: tuple[Webhook, ...] = ()

    def with_smtp_url(self, url: str) -> Self:
        """Replaces `email.smtp_url`. Raises ValidationError where the URL is invalid or does not fit the other
        settings."""
        if self.email is None:
            return self
        email = self.email.model_dump(by_alias=True, exclude_unset=True) | {"smtp_url": url}
        return self.model_copy(update={"email": Email.model_validate(email)})

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [endpoint.name for endpoint in self.webhooks]
        if len(set(names)) < len(names):
            raise PydanticCustomError("webhook_names", "two webhooks have the same name")
        return self


def load(path: Path, smtp_url: str | None = None) -> NotificationSettings:
    """Reads the file. smtp_url, if given, replaces its `email.smtp_url`. Raises BadSettingsError."""
    settings = read_toml(NotificationSettings, path, "NOTIFICATIONS_FILE")
    if smtp_url is None:
        return settings
    try:
        return settings.with_smtp_url(smtp_url)
    except ValueError:
        raise BadSettingsError(
            "SMTP_URL: this is not of the form smtp://host:port, or it does not fit the notifications file"
        ) from None
