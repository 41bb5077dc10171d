"""What no revision may do, not even once: each fault is made by stages that really run, and found from one event. Good
stages are never blamed, whatever is delivered twice, fails for a moment or is taken over."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from support.events import event, paid, placed
from support.pipeline import Pipeline

from orderflow.adapters.kafka.kafka_record import KafkaRecord
from orderflow.audit.report import Report
from orderflow.domain.release_analysis import Invariant, Verdict
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.notify.model import Delivery, DeliveryResult, Handover, Notification
from orderflow.query.clients.announced_changes import NAME, AnnouncedChanges
from orderflow.query.clients.topic_records import TopicRecords
from orderflow.query.store.release_invariants import invariants, written_changes

REVISION = "r"
"""The revision of every stage of the pipeline."""
STAGES = ("intake", "validate", "track", "notify", "park", "shelve", "query")


def broken(pipeline: Pipeline, since: datetime, revision: str = REVISION) -> dict[str, int]:
    """The invariants that do not hold, as stage.name, and how often."""
    with psycopg.connect(pipeline.url) as connection:
        return {
            f"{stage}.{each.name}": each.count
            for stage in STAGES
            for each in invariants(connection, stage, revision, since)
            if each.verdict is Verdict.WORSE
        }


def now(pipeline: Pipeline) -> datetime:
    """By the database's clock."""
    row: dict[str, datetime] = pipeline.rows("SELECT clock_timestamp() AS now")[0]
    return row["now"].astimezone(UTC)


def audit(pipeline: Pipeline) -> Report:
    report: Report | None = pipeline.audit()
    assert report is not None
    return report


def is_of(order_id: str) -> Callable[[KafkaRecord], bool]:
    return lambda record: record.attribute("subject") == order_id


def tracked_by_r(event: CloudEvent) -> CloudEvent:
    """As track names its revision."""
    return event.with_extensions(trackedby=REVISION)


def with_data(event: CloudEvent, **changes: object) -> CloudEvent:
    return replace(event, data=json.dumps(json.loads(event.data) | changes).encode())


class Unsteady:
    """A channel that cannot reach the mail server at each first attempt, and hears nothing back at some."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self._tried: set[str] = set()

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        order_id = notification.change.order_id
        if notification.event.id not in self._tried:
            self._tried.add(notification.event.id)
            if order_id.endswith("3"):
                return Delivery(DeliveryResult.NOT_NOW, "smtp_disconnected")
            if order_id.endswith("5"):
                await handover.once(lambda: asyncio.sleep(0))
                return Delivery(DeliveryResult.NOT_NOW, "smtp_451")
            if order_id.endswith("7"):
                await handover.once(lambda: asyncio.sleep(0))
                return Delivery(DeliveryResult.UNKNOWN, "smtp_timeout")
            if order_id.endswith("9"):
                await handover.once(lambda: asyncio.sleep(0))
                return Delivery(DeliveryResult.REFUSED, "smtp_550")
        delivery: Delivery = await self._inner.send(notification, handover)  # type: ignore[attr-defined]
        return delivery


def test_good_stages_are_never_blamed_whatever_comes_twice_fails_for_a_moment_or_is_taken_over(
    pipeline: Pipeline,
) -> None:
    since = now(pipeline)
    pipeline.change_status = tracked_by_r
    pipeline.channel = Unsteady(pipeline.mailbox)
    pipeline.lease_seconds = 0.2
    orders = [placed(f"good-{number}") for number in range(200)]
    early = [paid(f"good-{number}") for number in range(40)]
    pipeline.put(topics.INBOX, *early, *orders, *orders[:50])
    pipeline.put(topics.INBOX, *(event("shipped", f"good-{number}") for number in range(20)))
    pipeline.put(
        topics.INBOX, paid("good-1", amount=1), event("nonsense", "good-2"), event("placed", "good-2")
    )
    pipeline.all_stages()
    for stage in ("validate", "track", "notify", "shelve"):
        pipeline.move_group(stage, 0)
    pipeline.all_stages()
    refused = [each for each in pipeline.log(topics.STATUS) if each.subject == "good-9"]
    pipeline.put(topics.STATUS, *(each.with_extensions(replay="operator") for each in refused))
    pipeline.all_stages()
    assert audit(pipeline).missing == 0
    assert broken(pipeline, since) == {}
    ((attempts,),) = (row.values() for row in pipeline.rows("SELECT max(attempts) FROM notifications"))
    assert attempts > 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("total", 2901),
        ("captured", 5),
        ("refunded", 7),
        ("currency", "JPY"),
        ("version", 2),
        ("status", "shipped"),
        ("payment", "paid"),
        ("detail", {"amount": 1}),
    ],
)
def test_one_status_event_that_differs_from_history_is_told_to_nobody_and_counts_for_its_revision_of_track(
    pipeline: Pipeline, field: str, value: object
) -> None:
    since = now(pipeline)
    pipeline.change_status = lambda event: tracked_by_r(
        with_data(event, **{field: value}) if event.subject == "wrong" else event
    )
    pipeline.put(topics.INBOX, placed("wrong"), placed("right"))
    pipeline.all_stages()
    assert len(pipeline.mailbox.mails) == 1
    (parked,) = pipeline.rows("SELECT order_id, stage, code, reasons FROM parked")
    assert (parked["order_id"], parked["stage"], parked["code"]) == (
        "wrong",
        "notify",
        "differs_from_history",
    )
    assert parked["reasons"] == [
        {"code": "differs_from_history", "field": field, "text": "the order's history has another value"}
    ]
    name = "track.status_events_that_differ_from_history"
    assert broken(pipeline, since) == {name: 1}
    assert broken(pipeline, since, "another") == {}
    assert broken(pipeline, now(pipeline)) == {}


@pytest.mark.parametrize(("field", "value"), [("total", 2901), ("version", 2), ("currency", "JPY")])
def test_the_replay_of_a_status_event_that_differs_tells_what_the_history_has(
    pipeline: Pipeline, field: str, value: object
) -> None:
    pipeline.change_status = lambda event: tracked_by_r(with_data(event, **{field: value}))
    pipeline.put(topics.INBOX, placed("wrong"))
    pipeline.all_stages()
    assert pipeline.mailbox.mails == []
    (wrong,) = pipeline.log(topics.STATUS)
    pipeline.put(topics.STATUS, wrong.with_extensions(replay="operator"))
    pipeline.all_stages()
    (change,) = pipeline.mailbox.changes
    assert (change.total, change.version, change.currency) == (2900, 1, "EUR")


def test_the_order_in_a_status_event_is_compared_whole(pipeline: Pipeline) -> None:
    since = now(pipeline)

    def another_address(event: CloudEvent) -> CloudEvent:
        order = json.loads(event.data)["order"]
        order["customer"]["email"] = "mallory@example.org"
        return tracked_by_r(with_data(event, order=order))

    pipeline.change_status = another_address
    pipeline.put(topics.INBOX, placed("wrong"))
    pipeline.all_stages()
    assert pipeline.mailbox.mails == []
    assert [
        each["field"] for row in pipeline.rows("SELECT reasons FROM parked") for each in row["reasons"]
    ] == ["order"]
    assert broken(pipeline, since) == {"track.status_events_that_differ_from_history": 1}


def test_a_status_event_that_gives_no_notification_is_compared_too(pipeline: Pipeline) -> None:
    since = now(pipeline)
    pipeline.put(topics.INBOX, placed("quiet"))
    pipeline.all_stages()
    pipeline.change_status = lambda event: tracked_by_r(with_data(event, total=1))
    pipeline.put(topics.INBOX, event("packed", "quiet"))
    pipeline.all_stages()
    assert broken(pipeline, since) == {"track.status_events_that_differ_from_history": 1}


def test_an_event_of_which_the_database_has_no_row_goes_on(pipeline: Pipeline) -> None:
    """As after a restore."""
    since = now(pipeline)
    pipeline.put(topics.INBOX, placed("restored"))
    pipeline.deliver("validate", "track")
    pipeline.rows("DELETE FROM history RETURNING 1")
    pipeline.deliver("notify")
    assert len(pipeline.mailbox.mails) == 1
    assert broken(pipeline, since) == {}


class Twice:
    """The channel of a notify that sends everything twice."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    async def send(self, notification: Notification, handover: Handover) -> Delivery:
        await self._inner.send(notification, handover)  # type: ignore[attr-defined]
        delivery: Delivery = await self._inner.send(notification, handover)  # type: ignore[attr-defined]
        return delivery


class Silent:
    """The channel of a notify that hands over nothing and says that it did."""

    async def send(self, _notification: Notification, _handover: Handover) -> Delivery:
        return Delivery(DeliveryResult.SENT)


def test_one_notification_handed_over_twice_counts_and_no_second_copy_leaves(pipeline: Pipeline) -> None:
    since = now(pipeline)
    pipeline.channel = Twice(pipeline.mailbox)
    pipeline.put(topics.INBOX, placed("twice"))
    pipeline.all_stages()
    assert len(pipeline.mailbox.mails) == 1
    assert broken(pipeline, since) == {"notify.handovers_that_differ_from_claims": 1}
    assert broken(pipeline, since, "another") == {}
    assert broken(pipeline, now(pipeline)) == {}


def test_one_notification_recorded_as_sent_that_was_never_handed_over_counts(pipeline: Pipeline) -> None:
    since = now(pipeline)
    pipeline.channel = Silent()
    pipeline.put(topics.INBOX, placed("silent"))
    pipeline.all_stages()
    assert broken(pipeline, since) == {"notify.handovers_that_differ_from_claims": 1}


@pytest.mark.parametrize("stage", ["validate", "track", "notify", "shelve"])
def test_one_event_that_a_stage_took_and_did_nothing_with_counts_if_it_was_written_since(
    pipeline: Pipeline, stage: str
) -> None:
    since = now(pipeline)
    pipeline.put(topics.INBOX, *(placed(f"order-{number}") for number in range(5)), event("nonsense", "odd"))
    for each in ("validate", "track", "notify", "shelve"):
        lost = "odd" if each == "shelve" else "order-3"
        pipeline.deliver(each, drop=is_of(lost if each == stage else "none"))
    later = now(pipeline)
    assert audit(pipeline).missing == 1
    assert broken(pipeline, since) == {f"{stage}.events_without_effect": 1}
    assert broken(pipeline, later) == {}, "a predecessor's loss that is found late"


def test_a_record_that_kafkasource_drops_is_nobodys_fault(pipeline: Pipeline) -> None:
    since = now(pipeline)
    good = placed("nul")
    pipeline.put_raw(topics.INBOX, good.data, b"nul\0", good.kafka_headers())
    pipeline.put_raw(topics.INBOX, b"no event", b"order-3")
    pipeline.put_raw(topics.INBOX, good.data, b"null", [*good.kafka_headers(), ("trace", None)])
    pipeline.deliver("validate", drop=lambda _: True)
    assert audit(pipeline).missing
    assert broken(pipeline, since) == {}


def test_a_change_that_was_committed_and_never_announced_counts_for_the_revision_that_committed_it(
    pipeline: Pipeline,
) -> None:
    since = now(pipeline)
    pipeline.put(topics.INBOX, placed("unannounced"))
    pipeline.deliver("validate")
    pipeline.deliver("track", dies=True)
    later = now(pipeline)
    assert audit(pipeline).missing == 1
    assert broken(pipeline, since) == {"track.changes_not_announced": 1}
    assert broken(pipeline, since, "another") == {}
    assert broken(pipeline, later) == {}


def test_a_change_whose_status_event_is_not_in_the_topic_counts_although_track_says_that_it_announced_it(
    pipeline: Pipeline,
) -> None:
    since = now(pipeline)
    announced = AnnouncedChanges(TopicRecords({"bootstrap.servers": pipeline.bootstrap}))
    pipeline.put(topics.INBOX, placed("told"), placed("untold"))
    pipeline.deliver("validate")
    pipeline.change_status = lambda event: None if event.subject == "untold" else event
    pipeline.deliver("track")
    with psycopg.connect(pipeline.url) as connection:
        changes = written_changes(connection, REVISION, since, timedelta(0), 500)
        others = written_changes(connection, "another", since, timedelta(0), 500)
        recent = written_changes(connection, REVISION, since, timedelta(hours=1), 500)
    assert announced.invariants(*changes) == [Invariant(NAME, 1)]
    assert announced.invariants(*others) == [Invariant(NAME, 0)]
    assert announced.invariants(*recent) == [Invariant(NAME, 0)]
    assert audit(pipeline).missing == 0


def test_a_run_of_an_earlier_audit_counts_if_it_began_since_then(pipeline: Pipeline) -> None:
    since = now(pipeline)
    report = json.dumps({"topics": {topics.STATUS: {"judged": 5, "missing": 2}}})
    pipeline.rows(
        "INSERT INTO audit_runs (id, finished_at, state, report) VALUES (gen_random_uuid(), now(), 'missing', %s) "
        "RETURNING 1",
        report,
    )
    assert broken(pipeline, since) == {"notify.events_without_effect": 2}
    assert broken(pipeline, now(pipeline)) == {}
