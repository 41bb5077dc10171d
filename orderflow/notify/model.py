"""What is told to whom: the shop's settings for it, the status event as it is read, and what is due for one."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parseaddr
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    HttpUrl,
    JsonValue,
    StringConstraints,
    UrlConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError, Url

from orderflow.domain.events import kind_of, parse
from orderflow.domain.lifecycle import Payment, Status
from orderflow.domain.money import Amount, Currency
from orderflow.domain.orders import Frozen, Order, OrderId, Text
from orderflow.errors import BadSettingsError, PoisonError, Reason
from orderflow.messaging.status_event import SOURCE
from orderflow.settings import read_toml

if TYPE_CHECKING:
    from orderflow.messaging.cloudevent import Envelope

EMAIL: Final = "email"
WEBHOOK: Final = "webhook"

CustomerKind = Literal[
    "accepted",
    "rejected",
    "held",
    "paid",
    "declined",
    "shipped",
    "delivered",
    "cancelled",
    "returned",
    "refunded",
]
"""What a customer is told of; each has its e-mail templates."""

StatusKind = Literal[CustomerKind, "released", "authorised", "packed"]

SmtpUrl = Annotated[Url, UrlConstraints(allowed_schemes=["smtp", "smtps"], host_required=True)]


def _mailbox(text: str) -> str:
    if not text.isprintable() or "@" not in parseaddr(text)[1]:
        raise PydanticCustomError("mailbox", "this is no `Name <address@domain>`")
    return text


class Shop(Frozen):
    name: Text
    url: HttpUrl


class Email(Frozen):
    """smtp_url is `smtp://host:port` or `smtps://host:port`, without user or password.

    starttls: nothing is sent over a connection that does not become encrypted; left out, that is so for every
    server but one on this machine. password_file holds the password alone; a relative path starts at the
    notifications file.
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
    """One endpoint. name is its recipient name for good: a renamed endpoint is a new one.

    secret_file holds one `whsec_...` a line: every one signs, so that keys can be changed without a gap.
    allow_private lets the endpoint be inside our own network, and be plain http.
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
    """The notifications file. Without `email` there are no e-mails, without `webhooks` no webhooks."""

    shop: Shop
    email: Email | None = None
    webhooks: tuple[Webhook, ...] = ()

    def with_smtp_url(self, url: str) -> Self:
        """Raises ValidationError where the URL is none or does not fit the rest."""
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
    """The notifications file; smtp_url takes the place of its `email.smtp_url`. Raises BadSettingsError."""
    settings = read_toml(NotificationSettings, path, "NOTIFICATIONS_FILE")
    if smtp_url is None:
        return settings
    try:
        return settings.with_smtp_url(smtp_url)
    except ValueError:
        raise BadSettingsError("SMTP_URL: this is no smtp://host:port or does not fit the rest") from None


class StatusChange(Frozen):
    """The data of a status event. Amounts are minor units of the currency; version counts the order's changes.

    A field that is not known here is passed over: during a release, a newer track talks to an older notify.
    """

    model_config = ConfigDict(extra="ignore")

    order_id: OrderId
    kind: StatusKind
    version: int
    status: Status
    payment: Payment
    currency: Currency
    total: Amount
    captured: Amount
    refunded: Amount
    detail: dict[str, JsonValue]
    order: Order


@dataclass(frozen=True, slots=True)
class Notification:
    """One message. (event id, channel, recipient) is its key: it is sent once.

    recipient is an e-mail address, or the name of a webhook endpoint.
    """

    event: Envelope
    change: StatusChange
    channel: str
    recipient: str

    @property
    def place(self) -> str:
        """Where it goes, without personal data."""
        return self.channel if self.channel == EMAIL else f"{self.channel}.{self.recipient}"


class Fate(StrEnum):
    """What is known of one attempt to send."""

    SENT = "sent"
    REFUSED = "refused"
    """For good: no repetition cures it."""
    GONE = "gone"
    """Refused, and the recipient wants nothing any more."""
    NOT_NOW = "not_now"
    """Surely not taken: it may be sent again at once."""
    UNKNOWN = "unknown"
    """It may have been taken: there was no answer after it was handed over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """code is for machines and stays the same over releases; empty when sent."""

    fate: Fate
    code: str = ""


def read(event: Envelope) -> StatusChange:
    """Raises PoisonError where the event is none that track announced."""
    if event.source != SOURCE:
        raise PoisonError(Reason("source_unknown", "source", "status events come from track"))
    change = parse(StatusChange, event.data)
    if change.kind != kind_of(event.type):
        raise PoisonError(Reason("type_mismatch", "type", "the data is of another kind of event"))
    if change.order_id != event.subject:
        raise PoisonError(Reason("order_id_mismatch", "order_id", "this differs from the event's subject"))
    return change


def due(event: Envelope, change: StatusChange, settings: NotificationSettings) -> list[Notification]:
    """Every message that the change gives; the same change always gives them in the same order."""
    messages = []
    if settings.email is not None and change.kind in settings.email.kinds:
        messages.append(Notification(event, change, EMAIL, change.order.customer.email))
    messages.extend(
        Notification(event, change, WEBHOOK, endpoint.name)
        for endpoint in settings.webhooks
        if change.kind in endpoint.kinds
    )
    return messages
