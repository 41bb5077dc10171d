"""Notify's work: claim what is due for an event, send all of it at once, record what became of each."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from orderflow.errors import PoisonError, Reason, UnavailableError
from orderflow.notify import model
from orderflow.notify.model import Fate, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from orderflow.messaging.cloudevent import Envelope
    from orderflow.notify.model import Notification, NotificationSettings

log = logging.getLogger(__name__)

LEASE_USED: Final = 0.8
"""The part of a lease in which to send; the rest is for recording it."""
RECORD_ATTEMPTS: Final = 4
RECORD_PAUSE_SECONDS: Final = 0.2

_SENTENCES: Final = {
    "endpoint_gone": "the endpoint answered 410 and gets nothing any more",
    "address_refused": "the endpoint's address is not a public one",
}


class Found(StrEnum):
    """What a claim met."""

    OURS = "ours"
    BUSY = "busy"
    """Somebody else claimed it, and their lease is not over."""
    SENT = "sent"
    FAILED = "failed"
    DISABLED = "disabled"
    """The recipient wants nothing any more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """token is the fence: only who holds the newest one can record an outcome. code is that of a failure."""

    notification: Notification
    token: UUID
    found: Found
    code: str = ""


class Channel(Protocol):
    """One way to reach people. A trouble that is the recipient's or the network's is an outcome, no error."""

    async def send(self, notification: Notification) -> Outcome: ...


class Claims(Protocol):
    """Who sends what; orderflow.notify.claims.ClaimStore says more. The last three are False for a claim
    that was taken over. All raise UnavailableError when the database is away."""

    async def claim(self, due: Sequence[Notification], *, failed_too: bool) -> list[Claim]: ...
    async def confirm(self, claim: Claim) -> bool: ...
    async def fail(self, claim: Claim, code: str, *, gone: bool) -> bool: ...
    async def release(self, claim: Claim, code: str) -> bool: ...


class Notifier:
    """Sends each notification once.

    What can still send one twice: a process that dies, hangs or loses the database between handing a
    message over and recording it, and a server that takes a message but does not answer. Then the claim
    stays until its lease ends, and whoever takes it over sends again: at most one more copy per lease, with
    the same Message-ID or webhook-id, by which a receiver can tell. A late sender's record is refused.
    """

    def __init__(
        self,
        settings: NotificationSettings,
        channels: Mapping[str, Channel],
        claims: Claims,
        *,
        lease_seconds: float,
    ) -> None:
        self._settings = settings
        self._channels = channels
        self._claims = claims
        self._lease_seconds = lease_seconds

    async def handle(self, event: Envelope) -> str:
        """Returns `sent`, `duplicate` where all had been sent before, or `nothing_due`.

        Raises UnavailableError where anything is to be sent later, else PoisonError with a reason for each
        notification that failed for good. A replayed event tries these again, a redelivered one does not.
        """
        due = model.due(event, model.read(event), self._settings)
        if not due:
            return "nothing_due"
        until = time.monotonic() + self._lease_seconds * LEASE_USED
        claims = await self._claims.claim(due, failed_too="replay" in event.extensions)
        results = await asyncio.gather(
            *(self._carry_out(claim, until) for claim in claims), return_exceptions=True
        )
        later: list[str] = []
        failed: list[Reason] = []
        for claim, result in zip(claims, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if result.fate in {Fate.NOT_NOW, Fate.UNKNOWN}:
                later.append(f"{claim.notification.place} {result.code}")
            elif result.fate is not Fate.SENT:
                text = _SENTENCES.get(result.code, "the notification was refused for good")
                failed.append(Reason(result.code, claim.notification.place, text))
        if later:
            raise UnavailableError("not sent yet: " + ", ".join(later))
        if failed:
            raise PoisonError(*failed)
        return "sent" if any(claim.found is Found.OURS for claim in claims) else "duplicate"

    async def _carry_out(self, claim: Claim, until: float) -> Outcome:
        match claim.found:
            case Found.SENT | Found.DISABLED:
                return Outcome(Fate.SENT)
            case Found.FAILED:
                return Outcome(Fate.REFUSED, claim.code)
            case Found.BUSY:
                return Outcome(Fate.NOT_NOW, "claimed")
            case Found.OURS:
                outcome = await self._send(claim.notification, until)
                if outcome.fate is not Fate.SENT:
                    _log_trouble(claim.notification, outcome)
                return await self._record(claim, outcome)

    async def _send(self, notification: Notification, until: float) -> Outcome:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await self._channels[notification.channel].send(notification)
        except TimeoutError:
            return Outcome(Fate.UNKNOWN, "lease_over")

    async def _record(self, claim: Claim, outcome: Outcome) -> Outcome:
        match outcome.fate:
            case Fate.SENT:
                kept = await _insist(lambda: self._claims.confirm(claim))
            case Fate.REFUSED | Fate.GONE:
                gone = outcome.fate is Fate.GONE
                kept = await _insist(lambda: self._claims.fail(claim, outcome.code, gone=gone))
            case Fate.NOT_NOW:
                kept = await self._claims.release(claim, outcome.code)
            case Fate.UNKNOWN:
                return outcome
        return outcome if kept else Outcome(Fate.NOT_NOW, "taken_over")


async def _insist(record: Callable[[], Awaitable[bool]]) -> bool:
    """What was sent and is not recorded is sent again: that is worth more than one try."""
    for attempt in range(1, RECORD_ATTEMPTS):
        try:
            return await record()
        except UnavailableError:
            await asyncio.sleep(attempt * RECORD_PAUSE_SECONDS)
    return await record()


def _log_trouble(notification: Notification, outcome: Outcome) -> None:
    extra = {
        "order_id": notification.change.order_id,
        "event_id": notification.event.id,
        "place": notification.place,
        "fate": outcome.fate,
        "code": outcome.code,
    }
    log.warning("notification not sent", extra=extra)
