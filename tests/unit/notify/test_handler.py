"""The result of an event whose notifications have different results. Claims and channels are fakes."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pytest
from support.sending import AnyHistory
from support.statuses import announced

from orderflow.errors import PoisonError, TransientError
from orderflow.notify.handler import Claim, ClaimStatus, Notifier
from orderflow.notify.model import Delivery, DeliveryResult, Handover, Notification
from orderflow.notify.settings import NotificationSettings

SETTINGS = NotificationSettings.model_validate(
    {
        "shop": {"name": "Shop", "url": "https://shop.example"},
        "email": {"from": "orders@shop.example", "smtp_url": "smtp://127.0.0.1"},
        "webhooks": [
            {"name": name, "url": f"https://{name}.example", "secret_file": "secret"}
            for name in ("erp", "crm")
        ],
    }
)
SENT = Delivery(DeliveryResult.SENT)


@dataclass
class FakeClaims:
    """Grants claims and keeps each recorded result by target. taken_over: every result is recorded too late."""

    statuses: dict[str, ClaimStatus] = field(default_factory=dict)
    taken_over: bool = False
    records: dict[str, str] = field(default_factory=dict)
    retry_failed: bool | None = None
    outages: int = 0

    async def claim(self, notifications: Sequence[Notification], *, retry_failed: bool) -> list[Claim]:
        self.retry_failed = retry_failed
        return [
            Claim(each, uuid4(), self.statuses.get(each.target, ClaimStatus.OURS), "http_400")
            for each in notifications
        ]

    async def confirm(self, claim: Claim) -> bool:
        return self._record(claim, "sent")

    async def fail(self, claim: Claim, code: str, *, gone: bool) -> bool:
        return self._record(claim, f"{'gone' if gone else 'failed'} {code}")

    async def release(self, claim: Claim, code: str) -> bool:
        return self._record(claim, f"released {code}")

    def _record(self, claim: Claim, what: str) -> bool:
        if self.outages:
            self.outages -= 1
            raise TransientError("away")
        if not self.taken_over:
            self.records[claim.notification.target] = what
        return not self.taken_over


@dataclass
class FakeChannel:
    """Results by target; sent keeps the targets of the notifications."""

    deliveries: dict[str, Delivery] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        self.sent.append(notification.target)
        for _ in range(5):  # later than an error that comes at once
            await asyncio.sleep(0)
        return self.deliveries.get(notification.target, SENT)


class StuckChannel(FakeChannel):
    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        await super().send(notification, handover)
        return await asyncio.Event().wait() and SENT


class BrokenChannel(FakeChannel):
    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        raise RuntimeError(notification.recipient)


def notifier(
    claims: FakeClaims, webhooks: FakeChannel, email: FakeChannel | None = None, lease: float = 60
) -> Notifier:
    channels = {"email": email or webhooks, "webhook": webhooks}
    return Notifier(SETTINGS, channels, claims, AnyHistory(), lease_seconds=lease)


async def test_everything_due_is_sent_and_confirmed() -> None:
    claims, channel = FakeClaims(), FakeChannel()
    await notifier(claims, channel).handle(announced("paid"))
    assert claims.records == {"email": "sent", "webhook.erp": "sent", "webhook.crm": "sent"}


async def test_what_is_not_due_claims_nothing() -> None:
    claims = FakeClaims()
    quiet = SETTINGS.model_copy(update={"webhooks": ()})
    await Notifier(quiet, {}, claims, AnyHistory(), lease_seconds=60).handle(announced("packed"))
    assert claims.retry_failed is None


async def test_one_recipients_trouble_stops_no_other_and_the_event_comes_again() -> None:
    claims = FakeClaims()
    channel = FakeChannel({"webhook.erp": Delivery(DeliveryResult.NOT_NOW, "http_503")})
    with pytest.raises(TransientError, match=r"webhook\.erp http_503"):
        await notifier(claims, channel).handle(announced("paid"))
    assert claims.records == {"email": "sent", "webhook.erp": "released http_503", "webhook.crm": "sent"}


async def test_what_failed_for_good_is_recorded_and_parked_with_a_reason_each() -> None:
    claims = FakeClaims()
    channel = FakeChannel(
        {
            "email": Delivery(DeliveryResult.REFUSED, "smtp_550"),
            "webhook.crm": Delivery(DeliveryResult.GONE, "endpoint_gone"),
        }
    )
    with pytest.raises(PoisonError) as caught:
        await notifier(claims, channel).handle(announced("paid"))
    reasons = [(reason.code, reason.field) for reason in caught.value.reasons]
    assert reasons == [("smtp_550", "email"), ("endpoint_gone", "webhook.crm")]
    assert claims.records == {
        "email": "failed smtp_550",
        "webhook.erp": "sent",
        "webhook.crm": "gone endpoint_gone",
    }


async def test_what_failed_is_parked_only_when_nothing_is_to_be_retried() -> None:
    channel = FakeChannel(
        {
            "email": Delivery(DeliveryResult.REFUSED, "smtp_550"),
            "webhook.crm": Delivery(DeliveryResult.NOT_NOW, "http_500"),
        }
    )
    with pytest.raises(TransientError):
        await notifier(FakeClaims(), channel).handle(announced("paid"))


async def test_a_redelivery_sends_nothing_that_was_sent_and_parks_again_what_failed() -> None:
    claims = FakeClaims(
        {"email": ClaimStatus.SENT, "webhook.erp": ClaimStatus.FAILED, "webhook.crm": ClaimStatus.DISABLED}
    )
    channel = FakeChannel()
    with pytest.raises(PoisonError) as caught:
        await notifier(claims, channel).handle(announced("paid"))
    assert [(reason.code, reason.field) for reason in caught.value.reasons] == [("http_400", "webhook.erp")]
    assert (channel.sent, claims.records) == ([], {})


async def test_only_a_replay_asks_for_what_failed_to_be_tried_again() -> None:
    claims = FakeClaims()
    event = announced("paid")
    await notifier(claims, FakeChannel()).handle(event)
    assert claims.retry_failed is False
    await notifier(claims, FakeChannel()).handle(event.with_extensions(replay="1"))
    assert claims.retry_failed is True


async def test_while_somebody_else_sends_the_event_comes_again() -> None:
    claims, channel = FakeClaims({"email": ClaimStatus.BUSY}), FakeChannel()
    with pytest.raises(TransientError, match="email claimed"):
        await notifier(claims, channel).handle(announced("paid"))
    assert channel.sent == ["webhook.erp", "webhook.crm"]


async def test_what_may_have_been_taken_keeps_its_claim() -> None:
    claims = FakeClaims()
    channel = FakeChannel({"email": Delivery(DeliveryResult.UNKNOWN, "smtp_timeout")})
    with pytest.raises(TransientError, match="email smtp_timeout"):
        await notifier(claims, channel).handle(announced("paid"))
    assert "email" not in claims.records


async def test_a_send_that_outlasts_the_lease_is_given_up_and_keeps_its_claim() -> None:
    claims = FakeClaims()
    with pytest.raises(TransientError, match="email lease_over"):
        await notifier(claims, FakeChannel(), StuckChannel(), lease=0.05).handle(announced("paid"))
    assert claims.records == {"webhook.erp": "sent", "webhook.crm": "sent"}


async def test_a_sender_whose_claim_was_taken_over_counts_nothing_as_done() -> None:
    claims = FakeClaims(taken_over=True)
    with pytest.raises(TransientError, match="email taken_over"):
        await notifier(claims, FakeChannel()).handle(announced("paid"))


async def test_what_was_sent_is_recorded_though_the_database_was_away_for_a_moment() -> None:
    claims = FakeClaims(outages=1)
    await notifier(claims, FakeChannel()).handle(announced("paid"))
    assert set(claims.records.values()) == {"sent"}


async def test_a_fault_of_ours_in_one_channel_comes_through_after_the_others_are_done() -> None:
    claims = FakeClaims()
    with pytest.raises(RuntimeError):
        await notifier(claims, FakeChannel(), BrokenChannel()).handle(announced("paid"))
    assert claims.records == {"webhook.erp": "sent", "webhook.crm": "sent"}


async def test_neither_error_nor_log_names_the_customer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    channel = FakeChannel({"email": Delivery(DeliveryResult.NOT_NOW, "smtp_451")})
    event = replace(announced("paid"), subject="A-9", data=announced("paid", "A-9").data)
    with pytest.raises(TransientError) as caught:
        await notifier(FakeClaims(), channel).handle(event)
    text = str(caught.value) + "".join(str(record.__dict__) for record in caplog.records)
    assert "A-9" in text
    assert "ada@" not in text
