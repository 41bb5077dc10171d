"""Orders that go through two revisions of a stage, by the stages' own code; every fourth order meets the canary."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from pydantic import SecretStr

from orderflow.adapters.postgres.pool import Database
from orderflow.domain.rules import Rules, Waiting
from orderflow.errors import PoisonError
from orderflow.messaging import makers, parked_event, topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.notify.claims import ClaimStore
from orderflow.notify.handler import Notifier
from orderflow.notify.history import HistoryStore
from orderflow.notify.model import EMAIL, Delivery, DeliveryResult, Handover, Notification
from orderflow.notify.settings import NotificationSettings
from orderflow.settings import DatabaseSettings
from orderflow.shelve.parked_store import ParkedEventStore
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore
from orderflow.validate.handler import validate
from support.events import placed
from support.history import RecordingPublisher
from support.places import places

AGE = """
WITH ledger_rows AS (UPDATE ledger SET recorded_at = recorded_at - %(age)s::interval),
     notification_rows AS (UPDATE notifications SET created_at = created_at - %(age)s::interval,
                                                    finished_at = finished_at - %(age)s::interval)
UPDATE parked SET parked_at = parked_at - %(age)s::interval, recorded_at = recorded_at - %(age)s::interval
"""
NOTIFICATIONS = NotificationSettings.model_validate(
    {
        "shop": {"name": "Test shop", "url": "https://shop.example"},
        "email": {"from": "orders@shop.example", "smtp_url": "smtp://mail.example:25"},
    }
)

RULES = Rules()


@dataclass(frozen=True)
class Release:
    """A new revision. forgets: intake answers and publishes nothing. verdict, status: what the revision makes of the
    event that a correct one publishes. refuses: notify's mail server refuses its mails."""

    name: str
    rules: Rules = RULES
    forgets: bool = False
    verdict: Callable[[CloudEvent], CloudEvent] = lambda event: event
    status: Callable[[CloudEvent], CloudEvent] = lambda event: event
    refuses: bool = False

    @property
    def stage(self) -> str:
        return self.name.partition("-")[0]


STABLE = Release("none-00001")
"""No stage has this name, so all have their first revision."""


def sell(url: str, orders: Iterable[int], canary: Release, stable: Release = STABLE) -> None:
    """Sells orders while the canary has a quarter of the deliveries. All other stages have one revision."""
    asyncio.run(_sell(url, orders, canary, stable))


def age(url: str, minutes: int) -> None:
    """Makes everything that is recorded older."""
    with psycopg.connect(url) as connection:
        connection.execute(AGE, {"age": f"{minutes} minutes"})


async def _sell(url: str, orders: Iterable[int], canary: Release, stable: Release) -> None:
    database = Database(DatabaseSettings(database_url=SecretStr(url)))
    try:
        for number in orders:
            await _Stages(database, canary if number % 4 == 0 else stable).sell(f"r-{number}")
    finally:
        await database.close()


class _Stages:
    def __init__(self, database: Database, met: Release) -> None:
        self._met = met
        self._revision = {
            stage: f"{stage}-00001" for stage in ("intake", "validate", "track", "notify", "shelve")
        } | {met.stage: met.name}
        self._database = database
        self._published = RecordingPublisher()
        track = self._revision["track"]
        store = OrderStore(database, revision=track, waiting=Waiting())
        self._tracker = Tracker(store, self._published, places(), track)
        claims = ClaimStore(database, revision=self._revision["notify"], lease_seconds=60)
        mail = _Mail(refuses=met.refuses)
        self._notifier = Notifier(
            NOTIFICATIONS, {EMAIL: mail}, claims, HistoryStore(database), lease_seconds=60
        )

    async def sell(self, order_id: str) -> None:
        if not self._met.forgets:
            taken = makers.taken_by(placed(order_id), self._revision["intake"])
            verdict = validate(taken, self._met.rules, self._revision["validate"])
            await self._handle("track", self._met.verdict(verdict))
        for event in self._published.events[topics.STATUS]:
            await self._handle("notify", self._met.status(event))
        parked_events = ParkedEventStore(self._database, revision=self._revision["shelve"])
        for event in self._published.events[topics.PARKED]:
            await parked_events.upsert(event, parked_event.read(event))

    async def _handle(self, stage: str, event: CloudEvent) -> None:
        handler = self._tracker if stage == "track" else self._notifier
        try:
            await handler.handle(event)
        except PoisonError as error:
            received = parked_event.ReceivedEvent.of_cloudevent(event)
            parked = parked_event.parked(
                received, stage=stage, revision=self._revision[stage], reasons=error.reasons
            )
            await self._published.publish(topics.PARKED, [parked])


class _Mail:
    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses

    async def send(self, _: Notification, handover: Handover) -> Delivery:
        return await handover.once(self._hand_over)

    async def _hand_over(self) -> Delivery:
        return (
            Delivery(DeliveryResult.REFUSED, "smtp_550") if self._refuses else Delivery(DeliveryResult.SENT)
        )


def minutes_ago(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
