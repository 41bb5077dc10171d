"""The audit on real Kafka and PostgreSQL, with stages that drop, die and stay behind."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from confluent_kafka import TopicPartition
from pydantic import SecretStr
from support.events import event, paid, placed
from support.pipeline import PARTITIONS, Pipeline

from orderflow.adapters.kafka.kafka_record import KafkaRecord
from orderflow.adapters.kafka.log import Log, partition_of
from orderflow.audit.report import RecordStatus, Remedy, Report, State
from orderflow.audit.store import AuditStore
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.settings import DatabaseSettings
from orderflow_sandbox.servers.topics import admin_client


def run_audit(pipeline: Pipeline, **more: object) -> Report:
    report = pipeline.audit(**more)  # type: ignore[arg-type]
    assert report is not None
    return report


def any_record(_record: KafkaRecord) -> bool:
    return True


def is_of(order_id: str) -> object:
    return lambda record: record.attribute("subject") == order_id


def delete_records(pipeline: Pipeline, topic: str, partition: int, before: int) -> None:
    """Deletes records like Kafka's retention."""
    admin = admin_client(pipeline.bootstrap)
    for future in admin.delete_records([TopicPartition(topic, partition, before)]).values():
        future.result(20)


def history(pipeline: Pipeline, order_id: str) -> list[str]:
    return [
        row["kind"]
        for row in pipeline.rows("SELECT kind FROM history WHERE order_id = %s ORDER BY version", order_id)
    ]


def test_when_nothing_is_lost_every_record_has_a_fate_and_the_next_run_reads_none_of_them_again(
    pipeline: Pipeline,
) -> None:
    pipeline.put(
        topics.INBOX,
        placed("a"),
        paid("a"),
        paid("a", amount=1),
        event("shipped", "early"),
        placed("b", total=1),
    )
    pipeline.all_stages()
    report = run_audit(pipeline)
    assert (report.state, report.missing, report.changes) == (State.COMPLETE, 0, 3)
    inbox = report.topics[topics.INBOX]
    assert (inbox.judged, inbox.handled, inbox.statuses.total()) == (5, 5, 0)
    assert run_audit(pipeline).records == 0


def test_an_event_that_validate_never_got_is_published_again_and_takes_effect_once(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, placed("delivered"), lost := placed("lost"))
    pipeline.deliver("validate", drop=is_of("lost"))  # type: ignore[arg-type]
    pipeline.all_stages()
    report = run_audit(pipeline)
    assert (report.state, report.missing) == (State.MISSING, 1)
    (named,) = report.named
    assert (named.topic, named.order_id, named.id, named.remedy) == (
        topics.INBOX,
        "lost",
        lost.id,
        Remedy.REPUBLISHED,
    )
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    assert history(pipeline, "lost") == ["accepted"]
    assert len([mail for mail in pipeline.mailbox.mails if mail]) == 2


def test_an_event_that_track_never_got_is_missing_once_and_published_again_where_it_was_lost(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, placed("lost"))
    pipeline.deliver("validate")
    pipeline.deliver("track", drop=is_of("lost"))  # type: ignore[arg-type]
    pipeline.all_stages()
    report = run_audit(pipeline)
    assert [(each.topic, each.remedy) for each in report.named] == [(topics.EVENTS, Remedy.REPUBLISHED)]
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    assert history(pipeline, "lost") == ["accepted"]


def test_what_was_committed_but_never_announced_is_announced_under_the_same_id(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("announced"), placed("unannounced"))
    pipeline.deliver("validate")
    pipeline.deliver("track", drop=is_of("unannounced"))  # type: ignore[arg-type]
    pipeline.move_group("track", 0)
    pipeline.deliver("track", drop=is_of("announced"), dies=True)  # type: ignore[arg-type]
    assert history(pipeline, "unannounced") == ["accepted"]
    report = run_audit(pipeline)
    assert [(each.order_id, each.remedy) for each in report.named] == [("unannounced", Remedy.ANNOUNCED)]
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    announced = {each.subject: each for each in pipeline.log(topics.STATUS)}
    pipeline.move_group("track", 0)
    pipeline.deliver("track")
    again = [each for each in pipeline.log(topics.STATUS) if each.subject == "unannounced"]
    assert {(each.id, each.data) for each in again} == {
        (announced["unannounced"].id, announced["unannounced"].data)
    }
    assert sorted(recipient for _, recipient in pipeline.mailbox.mails) == ["ada@example.org"] * 2


def test_a_customer_who_was_never_told_is_told(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("quiet"))
    pipeline.deliver("validate", "track")
    pipeline.deliver("notify", drop=is_of("quiet"))  # type: ignore[arg-type]
    report = run_audit(pipeline)
    assert [(each.topic, each.remedy) for each in report.named] == [(topics.STATUS, Remedy.REPUBLISHED)]
    pipeline.all_stages()
    assert len(pipeline.mailbox.mails) == 1
    assert run_audit(pipeline).state is State.COMPLETE


def test_what_kafkasource_drops_is_parked_by_the_audit_itself_and_only_once(pipeline: Pipeline) -> None:
    good = placed("nul")
    pipeline.put_raw(topics.INBOX, None, b"order-1")
    pipeline.put_raw(topics.INBOX, b"{}", b"order-2", [("trace", None)])
    pipeline.put_raw(topics.INBOX, b"no event", b"order-3")
    pipeline.put_raw(topics.INBOX, good.data, b"order-4", [*good.kafka_headers(), ("ce_replay", None)])
    pipeline.put_raw(topics.INBOX, good.data, b"nul\0", good.kafka_headers())
    pipeline.deliver("validate", drop=any_record)
    report = run_audit(pipeline)
    assert report.remedies == {Remedy.PARKED: 4, Remedy.REPUBLISHED: 1}
    pipeline.all_stages()
    shelved = pipeline.rows("SELECT order_id, code, stage, topic FROM parked ORDER BY order_id")
    assert [(row["order_id"], row["code"]) for row in shelved] == [
        ("nul", "header_null"),
        ("order-1", "tombstone"),
        ("order-2", "header_null"),
        ("order-3", "not_a_cloudevent"),
    ]
    assert {(row["stage"], row["topic"]) for row in shelved} == {("audit", topics.INBOX)}
    assert history(pipeline, "nul") == ["accepted"]
    assert run_audit(pipeline).state is State.COMPLETE
    pipeline.rows("DELETE FROM audit_positions RETURNING 1")
    assert run_audit(pipeline).state is State.COMPLETE
    assert len(pipeline.log(topics.PARKED)) == 4


def test_what_is_dropped_again_and_again_is_parked_in_the_end(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("never"))
    remedies = []
    for _ in range(4):
        pipeline.deliver("validate", drop=any_record)
        remedies += [each.remedy for each in run_audit(pipeline).named]
    assert remedies == [*[Remedy.REPUBLISHED] * 3, Remedy.PARKED]
    pipeline.all_stages()
    assert [row["code"] for row in pipeline.rows("SELECT code FROM parked")] == ["undeliverable"]
    assert run_audit(pipeline).state is State.COMPLETE


def test_a_parked_event_that_never_reached_the_shelf_is_put_there(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, event("nonsense", "odd"))
    pipeline.deliver("validate")
    pipeline.deliver("shelve", drop=any_record)
    report = run_audit(pipeline)
    assert [each.remedy for each in report.named] == [Remedy.SHELVED]
    assert [row["order_id"] for row in pipeline.rows("SELECT order_id FROM parked")] == ["odd"]


def test_what_a_stage_has_not_confirmed_is_in_flight_and_not_missing(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("on-its-way"))
    report = run_audit(pipeline, grace=3600)
    assert (report.state, report.topics[topics.INBOX].in_flight) == (State.COMPLETE, 1)


def test_what_is_in_flight_for_too_long_is_said_and_so_is_a_group_that_never_confirmed_anything(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, placed("stuck"))
    report = run_audit(pipeline)
    assert (report.state, report.missing, report.topics[topics.INBOX].in_flight) == (State.BEHIND, 0, 1)
    (note,) = report.notes
    assert "the group of validate has never confirmed a record" in note
    pipeline.all_stages()
    pipeline.put(topics.INBOX, placed("stuck-again"))
    report = run_audit(pipeline)
    assert report.state is State.BEHIND
    assert "the oldest record that validate has not confirmed is" in report.notes[0]


def test_while_track_is_behind_an_inbox_event_is_put_off_and_judged_by_a_later_run(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, placed("slow"))
    pipeline.deliver("validate")
    report = run_audit(pipeline)
    assert (report.state, report.topics[topics.INBOX].statuses[RecordStatus.POSTPONED]) == (State.BEHIND, 1)
    assert len(pipeline.log(topics.INBOX)) == 1
    pipeline.all_stages()
    later = run_audit(pipeline)
    assert (later.state, later.topics[topics.INBOX].handled) == (State.COMPLETE, 1)


def test_what_is_younger_than_the_grace_period_is_left_to_a_later_run(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("young"))
    pipeline.deliver("validate", drop=any_record)
    report = run_audit(pipeline, grace=3600)
    assert (report.missing, report.topics[topics.INBOX].in_flight) == (0, 1)
    assert run_audit(pipeline).missing == 1


def test_a_group_that_was_reset_forward_loses_nothing_and_one_reset_back_is_no_news(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, *(placed(f"order-{number}") for number in range(20)))
    counts = dict.fromkeys(range(PARTITIONS), 0)
    for number in range(20):
        counts[partition_of(f"order-{number}".encode(), PARTITIONS)] += 1
    pipeline.move_group("validate", 0)
    pipeline.deliver("validate", drop=any_record)
    report = run_audit(pipeline)
    assert report.remedies[Remedy.REPUBLISHED] == 20
    pipeline.all_stages()
    assert len(pipeline.rows("SELECT 1 FROM history")) == 20
    pipeline.move_group("validate", 0)
    assert run_audit(pipeline).state is State.COMPLETE
    pipeline.all_stages()
    assert len(pipeline.rows("SELECT 1 FROM history")) == 20
    assert run_audit(pipeline).state is State.COMPLETE


def test_two_runs_at_once_are_one(pipeline: Pipeline) -> None:
    async def two(stages: object) -> list[Report | None]:
        import asyncio

        return list(await asyncio.gather(*(stages.audit(0, None, {}) for _ in range(2))))  # type: ignore[attr-defined]

    pipeline.put(topics.INBOX, placed("once"))
    pipeline.deliver("validate", drop=any_record)
    reports = pipeline.run(two)
    assert [report is None for report in reports].count(True) == 1
    assert len(pipeline.log(topics.INBOX)) == 2


class DiesAfter:
    """A publisher whose process dies after that many events."""

    def __init__(self, event_count: int) -> None:
        self.remaining = event_count

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        if self.remaining < len(events):
            raise TransientError("killed")
        self.remaining -= len(events)


@pytest.mark.parametrize("event_count", [0, 3])
def test_a_run_that_is_killed_anywhere_is_made_good_by_the_next(pipeline: Pipeline, event_count: int) -> None:
    pipeline.put(topics.INBOX, *(placed(f"o-{number}") for number in range(6)))
    pipeline.deliver("validate", drop=any_record)
    with pytest.raises(TransientError):
        pipeline.audit(publisher=DiesAfter(event_count))
    report = run_audit(pipeline)
    assert report.missing == 6
    assert "earlier runs that did not come to their end: 1" in report.notes
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    assert len(pipeline.rows("SELECT 1 FROM history")) == 6
    assert [row["state"] for row in pipeline.rows("SELECT state FROM audit_runs ORDER BY started_at")] == [
        "killed",
        "missing",
        "complete",
    ]


def test_what_retention_removed_before_it_was_audited_is_said_and_not_guessed(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("first"))
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    partition = partition_of(b"first", PARTITIONS)
    pipeline.put(topics.INBOX, *(event("packed", "first") for _ in range(4)))
    pipeline.deliver("validate", drop=any_record)
    delete_records(pipeline, topics.INBOX, partition, 3)
    report = run_audit(pipeline)
    assert (report.state, report.topics[topics.INBOX].removed) == (State.MISSING, 2)
    assert report.missing == 2
    assert any("2 records that were never accounted for are gone" in note for note in report.notes)
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE


def test_what_retention_removes_after_it_was_handled_is_no_news(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, *(event("packed", "first") for _ in range(4)))
    pipeline.all_stages()
    for topic in (topics.INBOX, topics.EVENTS):
        delete_records(pipeline, topic, partition_of(b"first", PARTITIONS), 3)
    report = run_audit(pipeline)
    assert (report.state, report.notes) == (State.COMPLETE, [])


def test_a_change_whose_status_event_retention_removed_is_not_announced_again(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("old"))
    pipeline.all_stages()
    delete_records(pipeline, topics.STATUS, partition_of(b"old", PARTITIONS), 1)
    assert run_audit(pipeline).state is State.COMPLETE
    assert pipeline.log(topics.STATUS) == []


def test_another_content_under_the_same_id_that_was_lost_is_found(pipeline: Pipeline) -> None:
    first = placed("twice")
    other = replace(first, data=placed("twice", shipping=500, total=3000).data)
    pipeline.put(topics.INBOX, first)
    pipeline.all_stages()
    pipeline.put(topics.INBOX, other)
    pipeline.deliver("validate")
    pipeline.deliver("track", drop=any_record)
    assert [each.topic for each in run_audit(pipeline).named] == [topics.EVENTS]
    pipeline.all_stages()
    assert [row["code"] for row in pipeline.rows("SELECT code FROM parked")] == ["event_id_reused"]
    assert run_audit(pipeline).state is State.COMPLETE


@pytest.mark.parametrize("order_id", ["used", "other"])
@pytest.mark.parametrize("later", [True, False])
def test_another_content_under_a_used_id_that_validate_never_got_is_found(
    pipeline: Pipeline, order_id: str, *, later: bool
) -> None:
    """The second content comes after the first audit or before it, for the same order or for another one."""
    first = placed("used")
    other = replace(placed(order_id, shipping=500, total=3000), id=first.id)
    pipeline.put(topics.INBOX, first)
    if later:
        pipeline.all_stages()
        assert run_audit(pipeline).state is State.COMPLETE
    pipeline.put(topics.INBOX, other)
    pipeline.deliver("validate", drop=lambda record: b'"shipping": 500' in (record.value or b""))
    pipeline.all_stages()
    (named,) = run_audit(pipeline).named
    assert (named.topic, named.id, named.remedy) == (topics.INBOX, first.id, Remedy.REPUBLISHED)
    pipeline.all_stages()
    assert [row["code"] for row in pipeline.rows("SELECT code FROM parked")] == ["event_id_reused"]
    assert run_audit(pipeline).state is State.COMPLETE
    assert history(pipeline, "used") == ["accepted"]


@pytest.mark.parametrize("early", [True, False])
def test_what_came_again_with_the_same_content_is_a_duplicate_and_no_news(
    pipeline: Pipeline, *, early: bool
) -> None:
    sent = [placed("again"), paid("again")]
    pipeline.put(topics.INBOX, *sent, *(sent if early else ()))
    pipeline.all_stages()
    pipeline.put(topics.INBOX, *(() if early else sent))
    pipeline.all_stages()
    report = run_audit(pipeline)
    assert (report.state, report.topics[topics.INBOX].handled) == (State.COMPLETE, 4)
    assert history(pipeline, "again") == ["accepted", "paid"]


def test_what_waited_in_vain_is_parked_by_the_audit_though_no_other_event_comes(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, paid("nobody"))
    pipeline.all_stages()
    pipeline.rows("UPDATE waiting SET expires_at = now() - interval '1 hour' RETURNING 1")
    assert run_audit(pipeline).waits_expired == 1
    pipeline.all_stages()
    assert [row["code"] for row in pipeline.rows("SELECT code FROM parked")] == ["waited_too_long"]


def test_each_run_leaves_a_row_with_its_report(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("row"))
    pipeline.all_stages()
    report = run_audit(pipeline)
    (row,) = pipeline.rows("SELECT state, report, started_at, finished_at FROM audit_runs")
    assert row["state"] == "complete"
    assert row["report"] == json.loads(json.dumps(report.as_dict()))
    assert row["started_at"] <= row["finished_at"] <= datetime.now(UTC)


def test_keys_go_where_kafkas_own_partitioner_puts_them(pipeline: Pipeline) -> None:
    names = [f"{'x' * (number % 9)}{number}" for number in range(60)]
    pipeline.put(topics.INBOX, *(placed(name) for name in names))
    log = Log({"bootstrap.servers": pipeline.bootstrap})
    ranges = {p: (0, each.end) for p, each in log.offset_ranges(topics.INBOX).items()}
    records = [KafkaRecord.of(message) for batch in log.read(topics.INBOX, ranges) for message in batch]
    assert {record.key: record.partition for record in records} == {
        name.encode(): partition_of(name.encode(), PARTITIONS) for name in names
    }


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [("/test_", "/absent_", "a database that does not exist"), ("//postgres@", "//absent@", "a user that")],
    ids=["database", "user"],
)
def test_a_wrong_name_in_the_url_of_the_database_is_the_cause_that_is_named(
    fresh_database: str, old: str, new: str, cause: str
) -> None:
    settings = DatabaseSettings(database_url=SecretStr(fresh_database.replace(old, new)))

    async def run() -> None:
        async with AuditStore.open(settings):
            pass

    with pytest.raises(TransientError, match=cause) as raised:
        asyncio.run(run())
    assert "absent" not in str(raised.value)
