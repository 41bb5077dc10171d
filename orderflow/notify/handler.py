"""Claims the notifications that are due for an event, sends them at once, and records the result of each."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from orderflow.errors import PoisonError, Reason, TransientError
from orderflow.messaging.deadline import EVENT_SECONDS
from orderflow.notify import due, model
from orderflow.notify.model import Delivery, DeliveryResult, Handover

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from orderflow.messaging.cloudevent import CloudEvent
    from orderflow.notify.model import Notification, StatusChange
    from orderflow.notify.settings import NotificationSettings

log = logging.getLogger(__name__)

LEASE_USED: Final = 0.8
"""The part of a lease in which to send. The rest is for recording the result."""
RECORD_SECONDS: Final = 5.0
"""The part of an event's time limit that is kept for recording the result."""
RECORD_ATTEMPTS: Final = 4
RECORD_PAUSE_SECONDS: Final = 0.2

_REASON_TEXTS: Final = {
    "endpoint_gone": "the endpoint answered 410 and gets nothing any more",
    "address_refused": "the endpoint's address is not a public one",
}


class ClaimStatus(StrEnum):
    OURS = "ours"
    BUSY = "busy"
    """Another process holds the claim, and its lease has not ended."""
    SENT = "sent"
    FAILED = "failed"
    DISABLED = "disabled"
    """The recipient wants no notifications any more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """token is a fencing token: only the process that holds the newest token can record a result. code is the code of
    a notification that failed before. handover counts what is handed over under this claim."""

    notification: Notification
    token: UUID
    status: ClaimStatus
    code: str = ""
    handover: Handover = field(default_factory=Handover)


class Channel(Protocol):
    """One medium, such as e-mail. A fault of the recipient or the network is a Delivery, not an error."""

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        """Hands the notification over through handover.once()."""


class Claims(Protocol):
    """The port to orderflow.notify.claims.ClaimStore. confirm, fail and release return False where another process has
    taken the claim over. Each method raises TransientError where the database is unavailable."""

    async def claim(self, notifications: Sequence[Notification], *, retry_failed: bool) -> list[Claim]: ...
    async def confirm(self, claim: Claim) -> bool: ...
    async def fail(self, claim: Claim, code: str, *, gone: bool) -> bool: ...
    async def release(self, claim: Claim, code: str) -> bool: ...


class History(Protocol):
    """The port to orderflow.notify.history.HistoryStore."""

    async def check(self, event: CloudEvent, change: StatusChange) -> tuple[CloudEvent, StatusChange]:
        """The event and its data, once they agree with the order's history.

        Raises PoisonError where the event differs and is no replay, TransientError where the database is unavailable.
        """


class Notifier:
    """Sends each notification once.

    Two faults can still send a notification twice: a process that dies, hangs or loses the database between
    transmitting a message and recording it, and a server that accepts a message and does not answer. In both cases the
    claim stays until its lease ends, and the process that claims next sends again: at most one more copy per lease,
    with the same Message-ID or webhook-id, so that a receiver can recognise the copy. A process whose lease has ended
    cannot record its result.
    """

    def __init__(
        self,
        settings: NotificationSettings,
        channels: Mapping[str, Channel],
        claims: Claims,
        history: History,
        *,
        lease_seconds: float,
        event_seconds: float = EVENT_SECONDS,
    ) -> None:
        """event_seconds is the time limit for one event."""
        self._settings = settings
        self._channels = channels
        self._claims = claims
        self._history = history
        self._send_seconds = min(
            lease_seconds * LEASE_USED, max(event_seconds - RECORD_SECONDS, event_seconds / 2)
        )

    async def handle(self, event: CloudEvent) -> str:
        """Returns `sent`, `duplicate` where every notification had been sent before, or `nothing_due`.

        Raises TransientError where a notification must be sent later. Raises PoisonError, with one reason for each
        notification that failed for good, where none must be sent later. A replayed event sends failed notifications
        again, a redelivered event does not. An event that differs from the order's history sends nothing. Its
        replay sends what the history has.
        """
        deadline = time.monotonic() + self._send_seconds
        change = model.read(event)
        event, change = await self._history.check(event, change)
        notifications = due.notifications_of(event, change, self._settings)
        if not notifications:
            return "nothing_due"
        claims = await self._claims.claim(notifications, retry_failed="replay" in event.extensions)
        results = await asyncio.gather(
            *(self._deliver(claim, deadline) for claim in claims), return_exceptions=True
        )
        unsent: list[str] = []
        failures: list[Reason] = []
        for claim, delivery in zip(claims, results, strict=True):
            if isinstance(delivery, BaseException):
                raise delivery
            target = claim.notification.target
            if delivery.result in {DeliveryResult.NOT_NOW, DeliveryResult.UNKNOWN}:
                unsent.append(f"{target} {delivery.code}")
            elif delivery.result is not DeliveryResult.SENT:
                text = _REASON_TEXTS.get(delivery.code, "the notification was refused for good")
                failures.append(Reason(delivery.code, target, text))
        if unsent:
            raise TransientError("not sent yet: " + ", ".join(unsent))
        if failures:
            raise PoisonError(*failures)
        return "sent" if any(claim.status is ClaimStatus.OURS for claim in claims) else "duplicate"

    async def _deliver(self, claim: Claim, deadline: float) -> Delivery:
        match claim.status:
            case ClaimStatus.SENT | ClaimStatus.DISABLED:
                return Delivery(DeliveryResult.SENT)
            case ClaimStatus.FAILED:
                return Delivery(DeliveryResult.REFUSED, claim.code)
            case ClaimStatus.BUSY:
                return Delivery(DeliveryResult.NOT_NOW, "claimed")
            case ClaimStatus.OURS:
                delivery = await self._send(claim, deadline)
                if delivery.result is not DeliveryResult.SENT:
                    _log_failure(claim.notification, delivery)
                return await self._record(claim, delivery)

    async def _send(self, claim: Claim, deadline: float) -> Delivery:
        notification = claim.notification
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self._channels[notification.channel].send(notification, claim.handover)
        except TimeoutError:
            return Delivery(DeliveryResult.UNKNOWN, "lease_over")

    async def _record(self, claim: Claim, delivery: Delivery) -> Delivery:
        match delivery.result:
            case DeliveryResult.SENT:
                recorded = await _retry(lambda: self._claims.confirm(claim))
            case DeliveryResult.REFUSED | DeliveryResult.GONE:
                gone = delivery.result is DeliveryResult.GONE
                recorded = await _retry(lambda: self._claims.fail(claim, delivery.code, gone=gone))
            case DeliveryResult.NOT_NOW:
                recorded = await self._claims.release(claim, delivery.code)
            case DeliveryResult.UNKNOWN:
                return delivery
        return delivery if recorded else Delivery(DeliveryResult.NOT_NOW, "taken_over")


async def _retry(record: Callable[[], Awaitable[bool]]) -> bool:
    """Retries while the database is unavailable. A notification that was sent and not recorded is sent again."""
    for attempt in range(1, RECORD_ATTEMPTS):
        try:
            return await record()
        except TransientError:
            await asyncio.sleep(attempt * RECORD_PAUSE_SECONDS)
    return await record()


def _log_failure(notification: Notification, delivery: Delivery) -> None:
    extra = {
        "order_id": notification.change.order_id,
        "event_id": notification.event.id,
        "place": notification.target,
        "fate": delivery.result,
        "code": delivery.code,
    }
    log.warning("notification not sent", extra=extra)
