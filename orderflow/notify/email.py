"""E-mail to customers: mails rendered from templates, and SMTP over a few connections that are reused.

Every copy of a mail has the same Message-ID, so that a mail server or a mail reader can drop the duplicate.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import unicodedata
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.header import Header
from email.message import Message
from email.policy import compat32
from email.utils import format_datetime, formataddr, parseaddr
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiosmtplib import SMTP, SMTPDataError, SMTPException, SMTPRecipientRefused
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from orderflow.domain.money import show
from orderflow.errors import BadSettingsError
from orderflow.messaging.cloudevent import derived_id
from orderflow.notify.model import Delivery, DeliveryResult

if TYPE_CHECKING:
    from orderflow.notify.model import Handover, Notification
    from orderflow.notify.settings import Email, Shop

TEMPLATES: Final = Path(__file__).parent / "templates" / "email"
IDLE_SECONDS: Final = 30.0
"""How long an idle connection is reused. Firewalls drop idle connections without notice."""
MAX_SUBJECT: Final = 200
_PERMANENT: Final = 500
_POLICY: Final = compat32.clone(linesep="\r\n")
# Quoted-printable: not every server that relays a mail supports 8BITMIME.
_UTF8: Final = Charset("utf-8")
_UTF8.body_encoding = QP


class MailRenderer:
    """Renders a notification from the templates of its kind: `<kind>.txt`, which has a block `subject`, and
    `<kind>.html`.

    Uses the standard library's older Message, which takes 1.0 ms per mail where EmailMessage takes 2.3 ms. Message
    accepts line ends in a header, so every value goes through one_line.
    """

    def __init__(self, shop: Shop, sender: str) -> None:
        self._shop = {"name": shop.name, "url": str(shop.url)}
        name, address = parseaddr(sender)
        self._from = formataddr((one_line(name), one_line(address)))
        self._domain = one_line(address.rpartition("@")[2])
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["money"] = show

    def render(self, notification: Notification) -> bytes:
        """The mail as SMTP transmits it: ASCII, with CRLF line ends."""
        change = notification.change
        values = {"shop": self._shop, "change": change, "order": change.order, "detail": change.detail}
        text = self._environment.get_template(f"{change.kind}.txt")
        html = self._environment.get_template(f"{change.kind}.html")
        message_id = derived_id("email", notification.event.id, notification.recipient)
        mail: Message[Any, Any] = Message(_POLICY)
        mail["MIME-Version"] = "1.0"
        # Without a boundary, the library compiles a pattern for each mail to choose one. Both parts are in
        # quoted-printable, which writes `=` as `=3D`, so that no text contains this boundary.
        mail["Content-Type"] = f'multipart/alternative; boundary="={message_id}"'
        subject = "".join(text.blocks["subject"](text.new_context(values)))
        mail["Subject"] = Header(one_line(subject)[:MAX_SUBJECT])
        mail["From"] = self._from
        mail["To"] = Header(one_line(notification.recipient))
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{message_id}@{self._domain}>"
        # Mail readers show all mails about one order as one conversation.
        mail["References"] = f"<{derived_id('email', change.order_id)}@{self._domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.attach(_part("plain", text.render(values)))
        mail.attach(_part("html", html.render(values)))
        return mail.as_bytes()


def _part(subtype: str, text: str) -> Message:
    part = Message(_POLICY)
    part["Content-Type"] = f"text/{subtype}"
    part.set_payload(text, _UTF8)
    return part


def one_line(text: str) -> str:
    """The text as a header value: without line ends, control characters and invisible characters."""
    visible = (character if unicodedata.category(character)[0] != "C" else " " for character in text)
    return " ".join("".join(visible).split())


class EmailChannel:
    """Uses at most `connections` connections at once. Raises BadSettingsError for an unreadable password file."""

    def __init__(self, shop: Shop, settings: Email, folder: Path) -> None:
        self._renderer = MailRenderer(shop, settings.sender)
        self._settings = settings
        self._sender = parseaddr(settings.sender)[1]
        self._password = _password(settings, folder)
        self._connections = asyncio.Semaphore(settings.connections)
        self._idle: list[tuple[float, SMTP]] = []

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        try:
            recipient, options = envelope_address(notification.recipient)
        except UnicodeError:
            return Delivery(DeliveryResult.REFUSED, "address_invalid")
        content = self._renderer.render(notification)
        async with self._connections:
            return await self._transmit(recipient, options, content, handover)

    async def close(self) -> None:
        while self._idle:
            _, smtp = self._idle.pop()
            with contextlib.suppress(SMTPException, OSError):
                await smtp.quit()

    async def _transmit(
        self, recipient: str, options: list[str], content: bytes, handover: Handover
    ) -> Delivery:
        try:
            smtp = await self._begin_mail(options)
        except (SMTPException, OSError, ValueError) as error:
            return Delivery(DeliveryResult.NOT_NOW, _code(error))
        done = False
        try:
            try:
                await smtp.rcpt(recipient, encoding="utf-8")
            except SMTPRecipientRefused as error:
                return _refusal(error)
            except ValueError:
                return Delivery(DeliveryResult.REFUSED, "address_invalid")
            except (SMTPException, OSError) as error:
                return Delivery(DeliveryResult.NOT_NOW, _code(error))
            try:
                await handover.once(lambda: smtp.data(content))
            except SMTPDataError as error:
                return _refusal(error)
            except (SMTPException, OSError) as error:
                return Delivery(DeliveryResult.UNKNOWN, _code(error))
            done = True
        finally:
            if done:
                self._idle.append((time.monotonic(), smtp))
            else:
                smtp.close()
        return Delivery(DeliveryResult.SENT)

    async def _begin_mail(self, options: list[str]) -> SMTP:
        """Returns a connection on which MAIL FROM has succeeded: an idle connection where one still works, else a new
        connection."""
        while self._idle:
            since, smtp = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and smtp.is_connected:
                try:
                    await smtp.mail(self._sender, options=options)
                except (SMTPException, OSError):
                    smtp.close()
                else:
                    return smtp
            smtp.close()
        smtp = self._new()
        try:
            await smtp.connect()
            await smtp.mail(self._sender, options=options)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _new(self) -> SMTP:
        settings, url = self._settings, self._settings.smtp_url
        encrypted = url.scheme == "smtps"
        return SMTP(
            hostname=url.host,
            port=url.port or (465 if encrypted else 25),
            username=settings.user,
            password=self._password,
            use_tls=encrypted,
            start_tls=settings.upgrades,
            timeout=settings.timeout_seconds,
        )


def envelope_address(address: str) -> tuple[str, list[str]]:
    """Returns the address for RCPT TO, with its domain in ASCII, and the options that MAIL FROM needs.

    Raises UnicodeError where the domain has no ASCII form.
    """
    if address.isascii():
        return address, []
    local, _, domain = address.rpartition("@")
    address = f"{local}@{domain.encode('idna').decode()}"
    return address, [] if local.isascii() else ["SMTPUTF8"]


def _refusal(error: SMTPRecipientRefused | SMTPDataError) -> Delivery:
    permanent = error.code >= _PERMANENT
    return Delivery(DeliveryResult.REFUSED if permanent else DeliveryResult.NOT_NOW, _code(error))


def _code(error: Exception) -> str:
    """A code for machines. The server's own sentence is left out, because it may quote the recipient's address."""
    code = getattr(error, "code", None)
    if code is not None:
        return f"smtp_{code}"
    if isinstance(error, TimeoutError):
        return "smtp_timeout"
    if isinstance(error, ssl.SSLError):
        return "smtp_tls"
    return "smtp_disconnected" if isinstance(error, OSError) else "smtp_failed"


def _password(settings: Email, folder: Path) -> str | None:
    if settings.password_file is None:
        return None
    try:
        return (folder / settings.password_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettingsError(
            f"NOTIFICATIONS_FILE: email.password_file: cannot read it: {type(error).__name__}"
        ) from None
