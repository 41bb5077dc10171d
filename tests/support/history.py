"""What the stages leave in the database, brought about by their own code: validate, track, notify and shelve
without Kafka between them."""

import asyncio
from collections.abc import Sequence
from functools import partial

from pydantic import SecretStr

from orderflow.adapters.postgres.pool import Database
from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.rules import Rules, Waiting
from orderflow.errors import PoisonError, Reason
from orderflow.messaging import parked_event, topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.notify import model
from orderflow.notify.claims import ClaimStore
from orderflow.settings import DatabaseSettings
from orderflow.shelve.parked_store import ParkedEventStore
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore
from orderflow.validate.handler import validate
from support.events import event, order, paid, placed
from support.places import places

RULES = Rules.model_validate({"currencies": ["EUR", "JPY"], "review": {"EUR": 100_000}})
HOSTILE_NAME = "<script>document.title='broken'</script> O'Neil"


class RecordingPublisher:
    """A publisher that keeps what was published, by topic."""

    def __init__(self) -> None:
        self.events: dict[str, list[CloudEvent]] = {topic: [] for topic in topics.ALL}

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        self.events[topic] += events


async def _happen(url: str, events: Sequence[CloudEvent], fail_for: Sequence[str]) -> None:
    database = Database(DatabaseSettings(database_url=SecretStr(url)))
    publisher = RecordingPublisher()
    tracker = Tracker(
        OrderStore(database, revision="track-00001", waiting=Waiting()), publisher, places(), "track-00001"
    )
    try:
        for inbox_event in events:
            try:
                await tracker.handle(validate(inbox_event, RULES))
            except PoisonError as error:
                received = parked_event.ReceivedEvent.of_cloudevent(inbox_event)
                await publisher.publish(
                    topics.PARKED,
                    [
                        parked_event.parked(
                            received, stage="validate", revision="validate-00001", reasons=error.reasons
                        )
                    ],
                )
        await _notify(database, publisher.events[topics.STATUS], fail_for)
        for parked in publisher.events[topics.PARKED]:
            await ParkedEventStore(database).upsert(parked, parked_event.read(parked))
    finally:
        await database.close()


async def _notify(database: Database, status_events: Sequence[CloudEvent], fail_for: Sequence[str]) -> None:
    claims = ClaimStore(database, revision="notify-00001", lease_seconds=60)
    for status_event in status_events:
        change = model.read(status_event)
        recipients = [(model.EMAIL, change.order.customer.email), (model.WEBHOOK, "shop")]
        due = [model.Notification(status_event, change, channel, who) for channel, who in recipients]
        for claim in await claims.claim(due, retry_failed=False):
            if change.order_id in fail_for and claim.notification.channel == model.EMAIL:
                await claims.fail(claim, "smtp_550", gone=False)
            else:
                await claim.handover.once(partial(asyncio.sleep, 0))
                await claims.confirm(claim)


def happen(url: str, *events: CloudEvent, fail_for: Sequence[str] = ()) -> None:
    """Takes inbox events through the stages; e-mails of the orders in fail_for cannot be sent."""
    asyncio.run(_happen(url, events, fail_for))


def park(url: str, body: bytes, *, reason: Reason, stage: str = "validate", **attributes: str) -> str:
    """Parks what was no event at all; returns the parked event's id."""
    received = parked_event.ReceivedEvent(attributes, "application/json", body)
    parked = parked_event.parked(
        received, stage=stage, revision=f"{stage}-00001", reasons=[reason], http_code=None
    )

    async def put() -> None:
        database = Database(DatabaseSettings(database_url=SecretStr(url)))
        await ParkedEventStore(database).upsert(parked, parked_event.read(parked))
        await database.close()

    asyncio.run(put())
    return parked.id


def everything(url: str) -> None:
    """A shop's day in small: one order of each sort that an operator meets. Applies the schema first."""
    migrate(url)
    person = {"customer": {"name": HOSTILE_NAME, "email": "hostile@example.org"}}
    large = {
        "lines": [{"sku": "PIANO", "name": "Grand piano", "quantity": 1, "unit_price": 990_000}],
        "shipping": 0,
    }
    happen(
        url,
        placed("done-1"),
        event("authorised", "done-1", {"amount": 2900, "currency": "EUR", "reference": "auth-77"}),
        paid("done-1"),
        event("packed", "done-1"),
        event("shipped", "done-1", {"carrier": "DHL", "tracking": "JD0146000"}),
        event("delivered", "done-1"),
        event("refunded", "done-1", {"amount": 900, "currency": "EUR"}),
        event("packed", "done-1"),
        event("paid", "done-1", {"amount": 1, "currency": "EUR"}),
        placed("held-1", **large, total=990_000),
        placed("rejected-1", total=1),
        placed("refund-1"),
        paid("refund-1"),
        event("cancelled", "refund-1", {"reason": "changed their mind"}),
        placed("unpaid-1"),
        event("shipped", "unpaid-1", {"carrier": "DHL"}),
        paid("awaited-1"),
        event("cancelled", "awaited-1"),
        paid("late-1"),
        placed("late-1"),
        placed("hostile-1", **person),
        placed("failing-1", customer={"name": "Grace Hopper", "email": "grace@example.org"}),
        placed("yen-1", currency="JPY", total=2900),
        event("placed", "poison-1", order(total="much")),
        fail_for=["failing-1"],
    )
