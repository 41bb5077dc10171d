"""E-mail to customers: letters from templates, and SMTP over a few connections that are kept.

A copy of a letter always has the Message-ID of the first, so that a mail server or a reader can drop it.
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
from orderflow.notify.model import Fate, Outcome

if TYPE_CHECKING:
    from orderflow.notify.model import Email, Notification, Shop

TEMPLATES: Final = Path(__file__).parent / "templates" / "email"
IDLE_SECONDS: Final = 30.0
"""How long a connection without use is trusted: firewalls forget it without telling."""
MAX_SUBJECT: Final = 200
_PERMANENT: Final = 500
_POLICY: Final = compat32.clone(linesep="\r\n")
# Quoted-printable: not every server on the way takes 8BITMIME.
_UTF8: Final = Charset("utf-8")
_UTF8.body_encoding = QP


class Letters:
    """Renders a notification. A kind has `<kind>.txt` with the block `subject`, and `<kind>.html`.

    The standard library's older Message does in 1.0 ms what EmailMessage does in 2.3 ms. It lets a line end
    into a header, so every value goes through one_line.
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

    def write(self, notification: Notification) -> bytes:
        """The letter as it goes over the wire, in ASCII with CRLF."""
        change = notification.change
        values = {"shop": self._shop, "change": change, "order": change.order, "detail": change.detail}
        text = self._environment.get_template(f"{change.kind}.txt")
        html = self._environment.get_template(f"{change.kind}.html")
        message_id = derived_id("email", notification.event.id, notification.recipient)
        letter: Message[Any, Any] = Message(_POLICY)
        letter["MIME-Version"] = "1.0"
        # The library would compile a pattern for each letter to choose one. Both parts are in base64.
        letter["Content-Type"] = f'multipart/alternative; boundary="={message_id}"'
        subject = "".join(text.blocks["subject"](text.new_context(values)))
        letter["Subject"] = Header(one_line(subject)[:MAX_SUBJECT])
        letter["From"] = self._from
        letter["To"] = Header(one_line(notification.recipient))
        letter["Date"] = format_datetime(datetime.now(UTC))
        letter["Message-ID"] = f"<{message_id}@{self._domain}>"
        # Readers show the letters about one order as one conversation.
        letter["References"] = f"<{derived_id('email', change.order_id)}@{self._domain}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.attach(_part("plain", text.render(values)))
        letter.attach(_part("html", html.render(values)))
        return letter.as_bytes()


def _part(subtype: str, text: str) -> Message:
    part = Message(_POLICY)
    part["Content-Type"] = f"text/{subtype}"
    part.set_payload(text, _UTF8)
    return part


def one_line(text: str) -> str:
    """A header's text: nothing that ends a line, and no control or invisible characters."""
    visible = (character if unicodedata.category(character)[0] != "C" else " " for character in text)
    return " ".join("".join(visible).split())


class EmailChannel:
    """Sends over at most `connections` connections at once. Raises BadSettingsError for an unreadable password."""

    def __init__(self, shop: Shop, settings: Email, folder: Path) -> None:
        self._letters = Letters(shop, settings.sender)
        self._settings = settings
        self._sender = parseaddr(settings.sender)[1]
        self._password = _password(settings, folder)
        self._free = asyncio.Semaphore(settings.connections)
        self._kept: list[tuple[float, SMTP]] = []

    async def send(self, notification: Notification) -> Outcome:
        try:
            recipient, options = envelope_address(notification.recipient)
        except UnicodeError:
            return Outcome(Fate.REFUSED, "address_invalid")
        content = self._letters.write(notification)
        async with self._free:
            return await self._hand_over(recipient, options, content)

    async def close(self) -> None:
        while self._kept:
            _, smtp = self._kept.pop()
            with contextlib.suppress(SMTPException, OSError):
                await smtp.quit()

    async def _hand_over(self, recipient: str, options: list[str], content: bytes) -> Outcome:
        try:
            smtp = await self._greeted(options)
        except (SMTPException, OSError, ValueError) as error:
            return Outcome(Fate.NOT_NOW, _code(error))
        done = False
        try:
            try:
                await smtp.rcpt(recipient, encoding="utf-8")
            except SMTPRecipientRefused as error:
                return _refusal(error)
            except ValueError:
                return Outcome(Fate.REFUSED, "address_invalid")
            except (SMTPException, OSError) as error:
                return Outcome(Fate.NOT_NOW, _code(error))
            try:
                await smtp.data(content)
            except SMTPDataError as error:
                return _refusal(error)
            except (SMTPException, OSError) as error:
                return Outcome(Fate.UNKNOWN, _code(error))
            done = True
        finally:
            if done:
                self._kept.append((time.monotonic(), smtp))
            else:
                smtp.close()
        return Outcome(Fate.SENT)

    async def _greeted(self, options: list[str]) -> SMTP:
        """A connection that has taken MAIL FROM: a kept one if it still does, else a new one."""
        while self._kept:
            since, smtp = self._kept.pop()
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
    """The address for RCPT TO, its domain in ASCII, and the options that MAIL FROM needs for it.

    Raises UnicodeError for a domain that has no ASCII form.
    """
    if address.isascii():
        return address, []
    local, _, domain = address.rpartition("@")
    address = f"{local}@{domain.encode('idna').decode()}"
    return address, [] if local.isascii() else ["SMTPUTF8"]


def _refusal(error: SMTPRecipientRefused | SMTPDataError) -> Outcome:
    return Outcome(Fate.REFUSED if error.code >= _PERMANENT else Fate.NOT_NOW, _code(error))


def _code(error: Exception) -> str:
    """What went wrong, for machines; a server's sentence may quote the address and is left out."""
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
