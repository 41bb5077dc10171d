"""The mails that were received: a Maildir on disk, and an index in memory.

The standard library's Maildir only reads it: its `add` waits for the disk at every mail.
"""

from __future__ import annotations

import asyncio
import itertools
import mailbox
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesHeaderParser, BytesParser
from email.policy import default
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aiosmtpd.smtp import SMTP, Envelope, Session

    from orderflow_sandbox.stand_ins.faults import Faults

_HANG_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Mail:
    """`key` names the mail in the Maildir. Keys sort by the time of arrival."""

    key: str
    received: datetime
    message_id: str
    to: str
    subject: str


@dataclass(slots=True)
class MailStore:
    """Mails survive a restart, but not a crash of the machine."""

    folder: Path
    mails: list[Mail] = field(default_factory=list)
    copies: dict[str, int] = field(default_factory=dict)
    """How often a Message-ID was received."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._maildir = mailbox.Maildir(self.folder)
        for key in sorted(self._maildir.keys()):
            self._index(key, self._maildir.get_bytes(key))

    _maildir: mailbox.Maildir = field(init=False)

    def add(self, content: bytes) -> None:
        key = f"{time.time_ns():020d}.{next(self._numbers)}.orderflow"
        unfinished = self.folder / "tmp" / key
        unfinished.write_bytes(content)
        unfinished.rename(self.folder / "new" / key)
        self._index(key, content)

    def search(self, text: str) -> list[Mail]:
        """The mails with every word of `text` in recipient, subject or Message-ID, newest first."""
        words = text.lower().split()
        return [
            mail
            for mail in reversed(self.mails)
            if all(word in f"{mail.to} {mail.subject} {mail.message_id}".lower() for word in words)
        ]

    def read(self, key: str) -> EmailMessage:
        """Raises KeyError where there is no such mail."""
        return BytesParser(EmailMessage, policy=default).parsebytes(self._maildir.get_bytes(key))

    def _index(self, key: str, content: bytes) -> None:
        head = BytesHeaderParser().parsebytes(content.partition(b"\r\n\r\n")[0])
        message_id = str(head["Message-ID"] or "")
        received = datetime.fromtimestamp(int(key.partition(".")[0]) / 1e9, UTC)
        self.mails.append(Mail(key, received, message_id, _plain(head["To"]), _plain(head["Subject"])))
        self.copies[message_id] = self.copies.get(message_id, 0) + 1


def _plain(header: object) -> str:
    """The decoded text of a header."""
    return str(make_header(decode_header(str(header or ""))))


class Receiver:
    """The SMTP server's handler, which aiosmtpd calls."""

    def __init__(self, store: MailStore, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        match self._faults.of_smtp("defer", "refuse"):
            case "defer":
                return "451 4.7.1 come again later"
            case "refuse":
                return "550 5.1.1 there is nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        fault = self._faults.of_smtp("hang", "vanish", "stall")
        if fault == "hang":
            await asyncio.sleep(_HANG_SECONDS)
        self._store.add(cast("bytes", envelope.content))
        if fault == "vanish":
            cast("asyncio.Transport", server.transport).abort()
        if fault == "stall":
            await asyncio.sleep(_HANG_SECONDS)
        return "250 OK"
