"""Workers of notify that die at a chosen point, and a stand-in for their channels that counts the copies."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from orderflow.adapters.postgres.pool import Database
from orderflow.errors import PoisonError, TransientError
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.notify.claims import ClaimStore
from orderflow.notify.handler import Claim, Notifier
from orderflow.notify.model import Delivery, DeliveryResult, Handover, Notification, StatusChange
from orderflow.notify.settings import NotificationSettings
from support.faults import DiedError

QUICK = ("sent", "not_now", "refused", "gone", "unknown, taken", "unknown, lost")
ANSWERS = (*QUICK, "slow, sent", "slow, not_now", "slow, refused")
"""A recipient's answers to a message. A slow recipient answers after the lease has ended and a successor has tried."""
DEATHS = ("", "", "", "before sending", "after sending", "after recording")

Key = tuple[str, str, str]
END_LEASES = "UPDATE notifications SET claimed_until = now() - interval '1 s' WHERE state = 'claimed'"
END_LEASE = END_LEASES + " AND event_id = %s AND channel = %s AND recipient = %s"


def key_of(notification: Notification) -> Key:
    return notification.event.id, notification.channel, notification.recipient


@dataclass
class World:
    """The true state of each message. copies counts the copies that arrived. ended_leases counts the leases that ended
    before a result was recorded, each of which permits one more copy. sending has the worker that claimed the message
    and recorded no result yet."""

    copies: Counter[Key] = field(default_factory=Counter)
    ended_leases: Counter[Key] = field(default_factory=Counter)
    recorded: dict[Key, str] = field(default_factory=dict)
    sending: dict[Key, object] = field(default_factory=dict)

    def begin(self, key: Key, worker: object) -> None:
        assert self.recorded.get(key) != "sent", "sent again, though it is recorded as sent"
        assert key not in self.sending, "two workers send it at once"
        self.sending[key] = worker

    def end(self, key: Key, worker: object) -> None:
        if self.sending.get(key) is worker:
            del self.sending[key]

    def end_lease(self, key: Key) -> None:
        if self.sending.pop(key, None):
            self.ended_leases[key] += 1


class AnyHistory:
    """A history that every status event agrees with."""

    async def check(self, event: CloudEvent, change: StatusChange) -> tuple[CloudEvent, StatusChange]:
        return event, change


class Worker:
    """A process of notify: its notifier, its claims in the real store and its channels."""

    def __init__(
        self, settings: NotificationSettings, database: Database, world: World, lease_seconds: float
    ) -> None:
        self._store = ClaimStore(database, revision="notify-00001", lease_seconds=lease_seconds)
        self._database = database
        self._world = world
        self.answers: dict[str, str] = {}
        self.death_point = ""
        self.dead = False
        self.successor: Worker | None = None
        channels = dict.fromkeys(("email", "webhook"), self)
        self.notifier = Notifier(settings, channels, self, AnyHistory(), lease_seconds=lease_seconds)

    def _live(self, point: str) -> None:
        self.dead = self.dead or self.death_point == point
        if self.dead:
            raise DiedError

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        self._world.begin(key_of(notification), self)
        self._live("before sending")
        await asyncio.sleep(0)
        return await handover.once(lambda: self._transmit(notification))

    async def _transmit(self, notification: Notification) -> Delivery:
        key = key_of(notification)
        answer = self.answers.get(notification.target, "sent")
        if answer.startswith("slow"):
            self._world.end_lease(key)
            async with self._database.connection() as connection:
                await connection.execute(END_LEASE, key)
            if self.successor:
                with suppress(TransientError, PoisonError):
                    await self.successor.notifier.handle(notification.event)
        if answer.endswith(("sent", "taken")):
            self._world.copies[key] += 1
        self._live("after sending")
        name = answer.partition(",")[0] if answer.startswith("unknown") else answer.rpartition(" ")[2]
        result = DeliveryResult(name)
        return Delivery(result, "" if result is DeliveryResult.SENT else "told_to")

    async def claim(self, notifications: Sequence[Notification], *, retry_failed: bool) -> list[Claim]:
        self._live("claiming")
        return await self._store.claim(notifications, retry_failed=retry_failed)

    async def confirm(self, claim: Claim) -> bool:
        return await self._record(claim, "sent", lambda: self._store.confirm(claim))

    async def fail(self, claim: Claim, code: str, *, gone: bool) -> bool:
        return await self._record(claim, "failed", lambda: self._store.fail(claim, code, gone=gone))

    async def release(self, claim: Claim, code: str) -> bool:
        return await self._record(claim, "released", lambda: self._store.release(claim, code))

    async def _record(self, claim: Claim, state: str, write: Callable[[], Awaitable[bool]]) -> bool:
        key = key_of(claim.notification)
        self._live("recording")
        self._world.end(key, self)
        is_recorded = await write()
        if is_recorded:
            self._world.recorded[key] = state
        self._live("after recording")
        return is_recorded
