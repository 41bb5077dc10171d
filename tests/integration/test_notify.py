"""Notify on a real PostgreSQL, a real SMTP server and a real webhook receiver: each message is sent
exactly once."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from support.stage import ROOT, Stage
from support.stand_ins import StandIns
from support.statuses import announced
from support.topics import Tap
from support.waiting import DEADLINE_SECONDS, until

from orderflow.adapters.postgres.pool import Database
from orderflow.adapters.postgres.schema import migrate
from orderflow.errors import PoisonError, TransientError
from orderflow.messaging import parked_event, topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.notify import due, model
from orderflow.notify.claims import ClaimStore
from orderflow.notify.email import EmailChannel
from orderflow.notify.handler import Channel, ClaimStatus, Notifier
from orderflow.notify.history import HistoryStore
from orderflow.notify.model import Delivery, Handover, Notification
from orderflow.notify.settings import NotificationSettings
from orderflow.notify.webhooks import WebhookChannel
from orderflow.settings import DatabaseSettings
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics

LEASE_SECONDS = 60.0
SHORT_LEASE_SECONDS = 1.0


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    with StandIns(tmp_path_factory.mktemp("stand_ins")) as running:
        yield running


@pytest.fixture(scope="module")
def database(database_url: str) -> str:
    migrate(database_url)
    return database_url


@pytest.fixture(scope="module")
def notify(
    kafka_bootstrap: str, database: str, stand_ins: StandIns, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    create_order_topics(kafka_bootstrap, 4)
    folder = tmp_path_factory.mktemp("notify")
    with Stage(
        "notify", folder / "log", **environment(folder, kafka_bootstrap, database, stand_ins)
    ) as stage:
        yield stage


def environment(folder: Path, kafka: str, database: str, stand_ins: StandIns) -> dict[str, str]:
    file = folder / "notifications.toml"
    file.write_text(stand_ins.notifications("smtp://mail.invalid"))
    return {
        "KAFKA_BOOTSTRAP": kafka,
        "DATABASE_URL": database,
        "NOTIFICATIONS_FILE": str(file),
        "SMTP_URL": f"smtp://127.0.0.1:{stand_ins.smtp_port}",
    }


@dataclass
class Workshop:
    """Builds notifiers in this process, each with the collaborators of a separate process of notify."""

    database: str
    stand_ins: StandIns
    folder: Path
    closing: list[Any]

    def notifier(
        self, *endpoints: dict[str, Any], lease: float = LEASE_SECONDS, smtp_port: int = 0
    ) -> Notifier:
        """A notifier whose mails go to the stand-in, and whose webhooks go to endpoints of the stand-in with these
        changes."""
        settings = NotificationSettings.model_validate(
            {
                "shop": {"name": "Test shop", "url": "https://shop.example"},
                "email": {
                    "from": "orders@shop.example",
                    "smtp_url": f"smtp://127.0.0.1:{smtp_port or self.stand_ins.smtp_port}",
                    "timeout_seconds": 5,
                },
                "webhooks": [self.endpoint(**changes) for changes in endpoints],
            }
        )
        assert settings.email is not None
        channels: dict[str, Channel] = {
            model.EMAIL: EmailChannel(settings.shop, settings.email, self.folder),
            model.WEBHOOK: WebhookChannel(settings.webhooks, self.folder),
        }
        self.closing += channels.values()
        return Notifier(settings, channels, self.claims(lease), self.history(), lease_seconds=lease)

    def endpoint(self, **changes: Any) -> dict[str, Any]:
        name = changes.get("name", "erp")
        return {
            "name": name,
            "url": f"{self.stand_ins.url}/webhook/{name}",
            "secret_file": str(self.stand_ins.secret_file),
            "allow_private": True,
        } | changes

    def history(self) -> HistoryStore:
        pool = Database(DatabaseSettings(database_url=SecretStr(self.database)))
        self.closing.append(pool)
        return HistoryStore(pool)

    def claims(self, lease: float) -> ClaimStore:
        pool = Database(DatabaseSettings(database_url=SecretStr(self.database)))
        self.closing.append(pool)
        return ClaimStore(pool, revision="notify-00001", lease_seconds=lease)


@pytest.fixture
async def workshop(database: str, stand_ins: StandIns, tmp_path: Path) -> AsyncIterator[Workshop]:
    workshop = Workshop(database, stand_ins, tmp_path, [])
    yield workshop
    for resource in workshop.closing:
        await resource.close()


def rows(database: str, order_id: str) -> dict[str, dict[str, Any]]:
    """The notifications of an order, by channel, and by endpoint for webhooks."""
    query = "SELECT * FROM notifications WHERE order_id = %s"
    with psycopg.connect(database, row_factory=dict_row) as connection:
        result = connection.execute(query, [order_id]).fetchall()
    return {row["channel"] if row["channel"] == "email" else row["recipient"]: row for row in result}


def state(database: str, order_id: str) -> dict[str, tuple[str, str | None]]:
    return {target: (row["state"], row["error"]) for target, row in rows(database, order_id).items()}


async def test_a_notification_names_the_revision_of_track_that_made_the_status_event(
    workshop: Workshop, database: str
) -> None:
    event = announced("paid", "makers-1").with_extensions(trackedby="track-00007")
    await workshop.notifier({}).handle(event)
    tracked_by = {target: row["tracked_by"] for target, row in rows(database, "makers-1").items()}
    assert tracked_by == {"email": "track-00007", "erp": "track-00007"}


async def deliver_until_acknowledged(notifier: Notifier, event: CloudEvent) -> int:
    """Delivers an event until notify acknowledges it. Returns the number of refusals before."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    refusals = 0
    while True:
        try:
            await notifier.handle(event)
        except TransientError:
            refusals += 1
            assert time.monotonic() < deadline, "the event was not acknowledged in time"
            await asyncio.sleep(0.05)
        else:
            return refusals


def codes(error: PoisonError) -> list[tuple[str, str]]:
    return [(reason.code, reason.field) for reason in error.reasons]


def test_the_stage_takes_an_event_in_either_mode_and_sends_it_once(
    notify: Stage, stand_ins: StandIns
) -> None:
    event = announced("paid", "modes-1")
    assert notify.binary(event).status_code == 204
    assert notify.structured(event).status_code == 204
    (mail,) = stand_ins.mails("modes-1")
    assert mail["subject"] == "We have your payment for order modes-1"
    (hook,) = stand_ins.webhooks("modes-1")
    assert hook["type"] == "dev.orderflow.order.paid.v1"
    assert hook["body"]["data"]["captured"] == 2900


def test_what_is_delivered_eight_times_in_parallel_is_sent_once(
    notify: Stage, stand_ins: StandIns, database: str
) -> None:
    events = [announced("accepted", f"parallel-{number:02}") for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(notify.binary, [each for each in events for _ in range(8)]))
    assert {answer.status_code for answer in answers} <= {204, 503}
    for event in events:
        until(lambda event=event: notify.binary(event).status_code == 204)  # type: ignore[misc]
        assert len(stand_ins.mails(event.subject)) == len(stand_ins.webhooks(event.subject)) == 1
        assert {row["attempts"] for row in rows(database, event.subject).values()} == {1}


def test_what_a_killed_process_had_claimed_is_sent_by_another_after_the_lease(
    kafka_bootstrap: str, database: str, stand_ins: StandIns, tmp_path: Path
) -> None:
    variables = environment(tmp_path, kafka_bootstrap, database, stand_ins) | {"CLAIM_SECONDS": "8"}
    event = announced("delivered", "killed-1")
    with (
        Stage("notify", tmp_path / "first.log", **variables) as first,
        Stage("notify", tmp_path / "second.log", **variables) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        with stand_ins.fault("smtp", "hang", times=1):
            answer = pool.submit(first.binary, event)
            until(lambda: state(database, "killed-1").get("erp") == ("sent", None))
            first.stop(signal.SIGKILL)
            assert answer.exception() is not None
        assert second.binary(event).status_code == 503
        assert stand_ins.mails("killed-1") == []
        until(lambda: second.binary(event).status_code == 204)
    assert len(stand_ins.mails("killed-1")) == len(stand_ins.webhooks("killed-1")) == 1
    assert rows(database, "killed-1")["email"]["attempts"] == 2


def test_a_mail_refused_for_good_is_parked_with_its_reason(
    notify: Stage, stand_ins: StandIns, kafka_bootstrap: str
) -> None:
    event = announced("cancelled", "refused-1")
    with stand_ins.fault("smtp", "refuse"):
        assert notify.binary(event).status_code == 204
    tap = Tap(kafka_bootstrap, topics.PARKED)
    (parked,) = tap.until(lambda _, each: each.subject == "refused-1")
    tap.close()
    (reason,) = parked_event.read(parked).reasons
    assert (reason.code, reason.field) == ("smtp_550", "email")
    assert len(stand_ins.webhooks("refused-1")) == 1
    assert not any("ada@" in str(line) for line in notify.events_in_log())


def test_without_the_database_the_event_comes_again(stand_ins: StandIns, tmp_path: Path) -> None:
    nobody = f"postgresql://127.0.0.1:{free_port()}/none"
    variables = environment(tmp_path, "127.0.0.1:1", nobody, stand_ins) | {"DATABASE_WAIT_SECONDS": "0.5"}
    with Stage("notify", tmp_path / "log", **variables) as stage:
        answer = stage.binary(announced("paid", "no-database-1"))
    assert answer.status_code == 503
    assert stand_ins.mails("no-database-1") == []


def test_a_bad_setting_ends_the_process_with_its_name(stand_ins: StandIns, tmp_path: Path) -> None:
    variables = environment(tmp_path, "127.0.0.1:1", "postgresql://nowhere", stand_ins) | {
        "SMTP_URL": "http://me:secret@x"
    }
    process = subprocess.run(
        [sys.executable, "-c", "import functions.notify"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | variables,
        capture_output=True,
        check=False,
        text=True,
    )
    assert process.returncode == 2
    assert "SMTP_URL" in process.stderr
    assert "secret" not in process.stderr


def test_a_shop_without_webhooks_does_not_wait_for_what_sends_them(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    variables = environment(tmp_path, "127.0.0.1:1", "postgresql://nowhere", stand_ins)
    file = Path(variables["NOTIFICATIONS_FILE"])
    file.write_text(file.read_text().partition("[[webhooks]]")[0])
    script = "import functions.notify, sys; sys.exit('aiohttp' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PATH": os.environ["PATH"]} | variables, check=False
    )
    assert process.returncode == 0


async def test_a_late_sender_cannot_record_anything(workshop: Workshop) -> None:
    settings = NotificationSettings.model_validate(
        {"shop": {"name": "x", "url": "https://x.example"}, "webhooks": [workshop.endpoint()]}
    )
    event = announced("paid", "fence-1")
    notifications = due.notifications(event, settings)
    first, second = workshop.claims(SHORT_LEASE_SECONDS), workshop.claims(LEASE_SECONDS)
    (late,) = await first.claim(notifications, retry_failed=False)
    assert late.status is ClaimStatus.OURS
    assert [claim.status for claim in await second.claim(notifications, retry_failed=False)] == [
        ClaimStatus.BUSY
    ]
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (current := (await second.claim(notifications, retry_failed=False))[0]).status is ClaimStatus.BUSY:
        assert time.monotonic() < deadline, "the claim was not taken over"
        await asyncio.sleep(0.02)
    assert current.status is ClaimStatus.OURS

    assert not await first.confirm(late)
    assert not await first.release(late, "http_500")
    assert not await first.fail(late, "http_400", gone=False)
    assert (await second.claim(notifications, retry_failed=False))[0].status is ClaimStatus.BUSY
    assert await second.confirm(current)
    assert not await second.release(current, "http_500")
    assert not await first.fail(late, "http_400", gone=False)
    assert (await second.claim(notifications, retry_failed=True))[0].status is ClaimStatus.SENT


async def test_a_mail_taken_without_an_answer_comes_once_more_after_the_lease_with_the_same_message_id(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    event = announced("accepted", "vanish-1")
    notifier = workshop.notifier(lease=SHORT_LEASE_SECONDS)
    with stand_ins.fault("smtp", "vanish", times=1):
        with pytest.raises(TransientError, match="email smtp_disconnected"):
            await notifier.handle(event)
        with pytest.raises(TransientError, match="email claimed"):
            await notifier.handle(event)
    assert await deliver_until_acknowledged(notifier, event) >= 0
    mails = stand_ins.mails("order vanish-1")
    assert len(mails) == 2
    assert len({mail["message_id"] for mail in mails}) == 1
    assert rows(database, "vanish-1")["email"]["attempts"] == 2


async def test_a_recipient_put_off_is_tried_again_at_once(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    event = announced("accepted", "deferred-1")
    notifier = workshop.notifier()
    with stand_ins.fault("smtp", "defer", times=1):
        with pytest.raises(TransientError, match="email smtp_451"):
            await notifier.handle(event)
        assert state(database, "deferred-1") == {"email": ("released", "smtp_451")}
        await notifier.handle(event)
    assert len(stand_ins.mails("deferred-1")) == 1
    assert state(database, "deferred-1") == {"email": ("sent", None)}


async def test_a_mail_server_that_is_away_holds_up_no_webhook(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    event = announced("accepted", "no-smtp-1")
    with pytest.raises(TransientError, match="email smtp_disconnected"):
        await workshop.notifier({}, smtp_port=free_port()).handle(event)
    assert state(database, "no-smtp-1") == {"email": ("released", "smtp_disconnected"), "erp": ("sent", None)}
    await workshop.notifier({}).handle(event)
    assert len(stand_ins.mails("no-smtp-1")) == len(stand_ins.webhooks("no-smtp-1")) == 1


async def test_a_connection_is_kept_and_made_anew_when_the_server_closed_it(
    workshop: Workshop, tmp_path: Path
) -> None:
    with StandIns(tmp_path / "own") as own:
        notifier = workshop.notifier(smtp_port=own.smtp_port)
        await notifier.handle(announced("accepted", "kept-1"))
        own.stop()
        own.start()
        await notifier.handle(announced("accepted", "kept-2"))
        assert len(own.mails("kept")) == 2


async def test_one_bad_webhook_stops_neither_mail_nor_other_webhooks(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    event = announced("accepted", "bad-hook-1")
    notifier = workshop.notifier({}, {"name": "crm"})
    with (
        stand_ins.fault("webhook", 500, endpoint="erp"),
        pytest.raises(TransientError, match=r"webhook\.erp http_500"),
    ):
        await notifier.handle(event)
    assert state(database, "bad-hook-1") == {
        "email": ("sent", None),
        "erp": ("released", "http_500"),
        "crm": ("sent", None),
    }
    await notifier.handle(event)
    assert len(stand_ins.mails("bad-hook-1")) == 1
    tries = stand_ins.webhooks("bad-hook-1")
    assert [(hook["endpoint"], hook["answer"]) for hook in tries if hook["endpoint"] == "erp"] == [
        ("erp", 204),
        ("erp", 500),
    ]
    assert len({hook["id"] for hook in tries if hook["endpoint"] == "erp"}) == 1
    assert len({hook["id"] for hook in tries}) == 2


async def test_an_endpoint_that_does_not_answer_is_given_up_in_time(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    notifier = workshop.notifier({"timeout_seconds": 0.3})
    with (
        stand_ins.fault("webhook", "hang"),
        pytest.raises(TransientError, match=r"webhook\.erp http_timeout"),
    ):
        await notifier.handle(announced("accepted", "slow-hook-1"))
    assert state(database, "slow-hook-1")["erp"][0] == "claimed"


async def test_an_endpoint_that_answers_410_gets_nothing_any_more(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    notifier = workshop.notifier({"name": "gone"})
    first, second, third = (announced("accepted", f"gone-{number}") for number in (1, 2, 3))
    with stand_ins.fault("webhook", 410, endpoint="gone"):
        with pytest.raises(PoisonError) as caught:
            await notifier.handle(first)
        assert codes(caught.value) == [("endpoint_gone", "webhook.gone")]
        await notifier.handle(second)
    assert state(database, "gone-1") == {"email": ("sent", None), "gone": ("failed", "endpoint_gone")}
    assert state(database, "gone-2") == {"email": ("sent", None)}
    assert stand_ins.webhooks("gone-2") == []

    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM webhook_endpoints_gone WHERE endpoint = 'gone'")
    await notifier.handle(third)
    assert len(stand_ins.webhooks("gone-3")) == 1


async def test_what_failed_for_good_is_sent_again_by_a_replay_only(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    event = announced("accepted", "replay-1")
    notifier = workshop.notifier({})
    with stand_ins.fault("webhook", 422), pytest.raises(PoisonError):
        await notifier.handle(event)
    with pytest.raises(PoisonError) as caught:
        await notifier.handle(event)
    assert codes(caught.value) == [("http_422", "webhook.erp")]
    assert [hook["answer"] for hook in stand_ins.webhooks("replay-1")] == [422]

    for _ in range(2):
        await notifier.handle(event.with_extensions(replay="1"))
    assert [hook["answer"] for hook in stand_ins.webhooks("replay-1")] == [204, 422]
    assert len(stand_ins.mails("replay-1")) == 1
    assert state(database, "replay-1")["erp"] == ("sent", None)


class Twice:
    """The channel of a notify that sends everything twice."""

    def __init__(self, inner: Channel) -> None:
        self._inner = inner

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        await self._inner.send(notification, handover)
        return await self._inner.send(notification, handover)


async def test_a_notify_that_sends_everything_twice_sends_no_second_copy_and_is_counted(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    notifier = workshop.notifier({})
    notifier._channels = {name: Twice(channel) for name, channel in notifier._channels.items()}
    for number in range(2):
        await notifier.handle(announced("accepted", f"twice-{number}"))
    for number in range(2):
        assert (
            len(stand_ins.mails(f"order twice-{number}")) == len(stand_ins.webhooks(f"twice-{number}")) == 1
        )
        counts = {
            (row["state"], row["handovers"], row["miscounted_by"])
            for row in rows(database, f"twice-{number}").values()
        }
        assert counts == {("sent", 2, "notify-00001")}


async def test_what_is_sent_at_the_second_attempt_was_handed_over_as_its_claims_allow(
    workshop: Workshop, stand_ins: StandIns, database: str
) -> None:
    notifier = workshop.notifier({})
    event = announced("accepted", "second-1")
    with (
        stand_ins.fault("smtp", "defer", times=1),
        stand_ins.fault("webhook", 500, endpoint="erp"),
        pytest.raises(TransientError),
    ):
        await notifier.handle(event)
    await notifier.handle(event)
    counts = {
        name: (row["handovers"], row["miscounted_by"]) for name, row in rows(database, "second-1").items()
    }
    assert counts["erp"] == (2, None)
    assert counts["email"] in {(1, None), (2, None)}


async def test_a_redirect_is_not_followed(workshop: Workshop, stand_ins: StandIns) -> None:
    with stand_ins.fault("webhook", "redirect", times=1), pytest.raises(PoisonError) as caught:
        await workshop.notifier({}).handle(announced("accepted", "redirect-1"))
    assert codes(caught.value) == [("http_302", "webhook.erp")]
    assert [hook["endpoint"] for hook in stand_ins.webhooks("redirect-1")] == ["erp"]


async def test_a_receiver_with_another_secret_refuses_the_signature(
    workshop: Workshop, stand_ins: StandIns, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("whsec_b3RoZXIgb3RoZXIgb3RoZXI=")
    before = stand_ins.counts()["webhooks"]["unverified"]
    with pytest.raises(PoisonError) as caught:
        await workshop.notifier({"secret_file": "other"}).handle(announced("accepted", "secret-1"))
    assert codes(caught.value) == [("http_400", "webhook.erp")]
    assert stand_ins.counts()["webhooks"]["unverified"] == before + 1


class Listener:
    """A server that counts connections. It sends the answer on each connection, and then again in an endless loop."""

    def __init__(self, answer: bytes = b"", again: bytes = b"") -> None:
        self._answer = answer
        self._again = again
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.read(1)
            writer.write(self._answer)
            while self._again and not writer.is_closing():
                writer.write(self._again)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_no_connection_is_made_to_a_private_address(workshop: Workshop, host: str) -> None:
    async with Listener() as listener:
        endpoint = {"name": "inside", "url": f"https://{host}:{listener.port}/", "allow_private": False}
        with pytest.raises(PoisonError) as caught:
            await workshop.notifier(endpoint).handle(announced("accepted"))
        assert codes(caught.value) == [("address_refused", "webhook.inside")]
        assert listener.connections == 0


async def test_an_answer_without_end_is_not_read(workshop: Workshop, database: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Listener(head, b"10000\r\n" + bytes(0x10000) + b"\r\n") as listener:
        notifier = workshop.notifier({"name": "endless", "url": f"http://127.0.0.1:{listener.port}/"})
        await notifier.handle(announced("accepted", "endless-1"))
    assert state(database, "endless-1")["endless"] == ("sent", None)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
async def test_an_answer_that_is_none_leaves_open_whether_it_was_taken(
    workshop: Workshop, database: str, answer: bytes
) -> None:
    event = announced("accepted")
    async with Listener(answer) as listener:
        notifier = workshop.notifier({"name": "mute", "url": f"http://127.0.0.1:{listener.port}/"})
        with pytest.raises(TransientError, match=r"webhook\.mute http_"):
            await notifier.handle(event)
    assert state(database, event.subject)["mute"][0] == "claimed"


async def test_an_address_that_no_server_takes_is_refused_for_good(workshop: Workshop) -> None:
    customer = {"name": "Bo", "email": "bo@" + "x" * 70 + "é.example"}
    event = announced("accepted", customer=customer)
    with pytest.raises(PoisonError) as caught:
        await workshop.notifier().handle(event)
    assert codes(caught.value) == [("address_invalid", "email")]


async def test_mails_go_to_addresses_beyond_ascii(workshop: Workshop, stand_ins: StandIns) -> None:
    event = announced("accepted", "utf8-1", customer={"name": "Zoë", "email": "zoë@bücher.example"})
    await workshop.notifier().handle(event)
    assert [mail["to"] for mail in stand_ins.mails("utf8-1")] == ["zoë@bücher.example"]


async def test_an_order_with_other_data_under_the_same_event_id_sends_nothing_more(
    workshop: Workshop, stand_ins: StandIns
) -> None:
    event = announced("accepted", "same-id-1")
    notifier = workshop.notifier()
    await notifier.handle(event)
    changed = json.loads(event.data) | {"total": 1}
    await notifier.handle(replace(event, data=json.dumps(changed).encode()))
    assert len(stand_ins.mails("same-id-1")) == 1
