"""The audit on real Kafka and PostgreSQL, with stages that drop, die and stay behind."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from confluent_kafka import TopicPartition
from support.events import event, paid, placed
from support.pipeline import PARTITIONS, Pipeline

from orderflow.adapters.kafka.log import Log, partition_of
from orderflow.audit.kafka_record import KafkaRecord
from orderflow.audit.report import RecordStatus, Remedy, Report, State
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.servers.topics import admin_client


def audited(line: Pipeline, **more: object) -> Report:
    report = line.audit(**more)  # type: ignore[arg-type]
    assert report is not None
    return report


def everything(_record: KafkaRecord) -> bool:
    return True


def is_of(order_id: str) -> object:
    return lambda record: record.attribute("subject") == order_id


def remove(line: Pipeline, topic: str, partition: int, before: int) -> None:
    """What retention does."""
    admin = admin_client(line.bootstrap)
    for future in admin.delete_records([TopicPartition(topic, partition, before)]).values():
        future.result(20)


def history(line: Pipeline, order_id: str) -> list[str]:
    return [
        row["kind"]
        for row in line.rows("SELECT kind FROM history WHERE order_id = %s ORDER BY version", order_id)
    ]


def test_when_nothing_is_lost_every_record_has_a_fate_and_the_next_run_reads_none_of_them_again(
    line: Pipeline,
) -> None:
    line.put(
        topics.INBOX,
        placed("a"),
        paid("a"),
        paid("a", amount=1),
        event("shipped", "early"),
        placed("b", total=1),
    )
    line.all_stages()
    report = audited(line)
    assert (report.state, report.missing, report.changes) == (State.COMPLETE, 0, 3)
    inbox = report.topics[topics.INBOX]
    assert (inbox.judged, inbox.handled, inbox.statuses.total()) == (5, 5, 0)
    assert audited(line).records == 0


def test_an_event_that_validate_never_got_is_published_again_and_takes_effect_once(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("kept"), lost := placed("lost"))
    line.deliver("validate", drop=is_of("lost"))  # type: ignore[arg-type]
    line.all_stages()
    report = audited(line)
    assert (report.state, report.missing) == (State.MISSING, 1)
    (named,) = report.named
    assert (named.topic, named.order_id, named.id, named.remedy) == (
        topics.INBOX,
        "lost",
        lost.id,
        Remedy.REPUBLISHED,
    )
    line.all_stages()
    assert audited(line).state is State.COMPLETE
    assert history(line, "lost") == ["accepted"]
    assert len([mail for mail in line.mailbox.mails if mail]) == 2


def test_an_event_that_track_never_got_is_missing_once_and_published_again_where_it_was_lost(
    line: Pipeline,
) -> None:
    line.put(topics.INBOX, placed("lost"))
    line.deliver("validate")
    line.deliver("track", drop=is_of("lost"))  # type: ignore[arg-type]
    line.all_stages()
    report = audited(line)
    assert [(each.topic, each.remedy) for each in report.named] == [(topics.EVENTS, Remedy.REPUBLISHED)]
    line.all_stages()
    assert audited(line).state is State.COMPLETE
    assert history(line, "lost") == ["accepted"]


def test_what_was_committed_but_never_announced_is_announced_under_the_same_id(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("told"), placed("untold"))
    line.deliver("validate")
    line.deliver("track", drop=is_of("untold"))  # type: ignore[arg-type]
    line.move_group("track", 0)
    line.deliver("track", drop=is_of("told"), dies=True)  # type: ignore[arg-type]
    assert history(line, "untold") == ["accepted"]
    report = audited(line)
    assert [(each.order_id, each.remedy) for each in report.named] == [("untold", Remedy.ANNOUNCED)]
    line.all_stages()
    assert audited(line).state is State.COMPLETE
    announced = {each.subject: each for each in line.log(topics.STATUS)}
    line.move_group("track", 0)
    line.deliver("track")
    again = [each for each in line.log(topics.STATUS) if each.subject == "untold"]
    assert {(each.id, each.data) for each in again} == {(announced["untold"].id, announced["untold"].data)}
    assert sorted(recipient for _, recipient in line.mailbox.mails) == ["ada@example.org"] * 2


def test_a_customer_who_was_never_told_is_told(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("quiet"))
    line.deliver("validate", "track")
    line.deliver("notify", drop=is_of("quiet"))  # type: ignore[arg-type]
    report = audited(line)
    assert [(each.topic, each.remedy) for each in report.named] == [(topics.STATUS, Remedy.REPUBLISHED)]
    line.all_stages()
    assert len(line.mailbox.mails) == 1
    assert audited(line).state is State.COMPLETE


def test_what_kafkasource_drops_is_parked_by_the_audit_itself_and_only_once(line: Pipeline) -> None:
    good = placed("nul")
    line.put_raw(topics.INBOX, None, b"order-1")
    line.put_raw(topics.INBOX, b"{}", b"order-2", [("trace", None)])
    line.put_raw(topics.INBOX, b"no event", b"order-3")
    line.put_raw(topics.INBOX, good.data, b"order-4", [*good.kafka_headers(), ("ce_replay", None)])
    line.put_raw(topics.INBOX, good.data, b"nul\0", good.kafka_headers())
    line.deliver("validate", drop=everything)
    report = audited(line)
    assert report.remedies == {Remedy.PARKED: 4, Remedy.REPUBLISHED: 1}
    line.all_stages()
    shelved = line.rows("SELECT order_id, code, stage, topic FROM parked ORDER BY order_id")
    assert [(row["order_id"], row["code"]) for row in shelved] == [
        ("nul", "header_null"),
        ("order-1", "tombstone"),
        ("order-2", "header_null"),
        ("order-3", "not_a_cloudevent"),
    ]
    assert {(row["stage"], row["topic"]) for row in shelved} == {("audit", topics.INBOX)}
    assert history(line, "nul") == ["accepted"]
    assert audited(line).state is State.COMPLETE
    line.rows("DELETE FROM audit_positions RETURNING 1")
    assert audited(line).state is State.COMPLETE
    assert len(line.log(topics.PARKED)) == 4


def test_what_is_dropped_again_and_again_is_parked_in_the_end(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("never"))
    remedies = []
    for _ in range(4):
        line.deliver("validate", drop=everything)
        remedies += [each.remedy for each in audited(line).named]
    assert remedies == [*[Remedy.REPUBLISHED] * 3, Remedy.PARKED]
    line.all_stages()
    assert [row["code"] for row in line.rows("SELECT code FROM parked")] == ["undeliverable"]
    assert audited(line).state is State.COMPLETE


def test_a_parked_event_that_never_reached_the_shelf_is_put_there(line: Pipeline) -> None:
    line.put(topics.INBOX, event("nonsense", "odd"))
    line.deliver("validate")
    line.deliver("shelve", drop=everything)
    report = audited(line)
    assert [each.remedy for each in report.named] == [Remedy.SHELVED]
    assert [row["order_id"] for row in line.rows("SELECT order_id FROM parked")] == ["odd"]


def test_what_a_stage_has_not_confirmed_is_in_flight_and_not_missing(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("on-its-way"))
    report = audited(line, grace=3600)
    assert (report.state, report.topics[topics.INBOX].in_flight) == (State.COMPLETE, 1)


def test_what_is_in_flight_for_too_long_is_said_and_so_is_a_group_that_never_confirmed_anything(
    line: Pipeline,
) -> None:
    line.put(topics.INBOX, placed("stuck"))
    report = audited(line)
    assert (report.state, report.missing, report.topics[topics.INBOX].in_flight) == (State.BEHIND, 0, 1)
    (note,) = report.notes
    assert "the group of validate has never confirmed a record" in note
    line.all_stages()
    line.put(topics.INBOX, placed("stuck-again"))
    report = audited(line)
    assert report.state is State.BEHIND
    assert "the oldest record that validate has not confirmed is" in report.notes[0]


def test_while_track_is_behind_an_inbox_event_is_put_off_and_judged_by_a_later_run(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("slow"))
    line.deliver("validate")
    report = audited(line)
    assert (report.state, report.topics[topics.INBOX].statuses[RecordStatus.POSTPONED]) == (State.BEHIND, 1)
    assert len(line.log(topics.INBOX)) == 1
    line.all_stages()
    later = audited(line)
    assert (later.state, later.topics[topics.INBOX].handled) == (State.COMPLETE, 1)


def test_what_is_younger_than_the_grace_period_is_left_to_a_later_run(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("young"))
    line.deliver("validate", drop=everything)
    assert audited(line, grace=3600).missing == 0
    assert audited(line).missing == 1


def test_a_group_that_was_reset_forward_loses_nothing_and_one_reset_back_is_no_news(line: Pipeline) -> None:
    line.put(topics.INBOX, *(placed(f"order-{number}") for number in range(20)))
    counts = dict.fromkeys(range(PARTITIONS), 0)
    for number in range(20):
        counts[partition_of(f"order-{number}".encode(), PARTITIONS)] += 1
    line.move_group("validate", 0)
    line.deliver("validate", drop=everything)
    report = audited(line)
    assert report.remedies[Remedy.REPUBLISHED] == 20
    line.all_stages()
    assert len(line.rows("SELECT 1 FROM history")) == 20
    line.move_group("validate", 0)
    assert audited(line).state is State.COMPLETE
    line.all_stages()
    assert len(line.rows("SELECT 1 FROM history")) == 20
    assert audited(line).state is State.COMPLETE


def test_two_runs_at_once_are_one(line: Pipeline) -> None:
    async def two(stages: object) -> list[Report | None]:
        import asyncio

        return list(await asyncio.gather(*(stages.audit(0, None, {}) for _ in range(2))))  # type: ignore[attr-defined]

    line.put(topics.INBOX, placed("once"))
    line.deliver("validate", drop=everything)
    reports = line.run(two)
    assert [report is None for report in reports].count(True) == 1
    assert len(line.log(topics.INBOX)) == 2


class DiesAfter:
    """A publisher whose process is gone after so many events."""

    def __init__(self, most: int) -> None:
        self.left = most

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> None:
        if self.left < len(events):
            raise TransientError("killed")
        self.left -= len(events)


@pytest.mark.parametrize("most", [0, 3])
def test_a_run_that_is_killed_anywhere_is_made_good_by_the_next(line: Pipeline, most: int) -> None:
    line.put(topics.INBOX, *(placed(f"o-{number}") for number in range(6)))
    line.deliver("validate", drop=everything)
    with pytest.raises(TransientError):
        line.audit(publisher=DiesAfter(most))
    report = audited(line)
    assert report.missing == 6
    assert "1 earlier runs did not come to their end" in report.notes
    line.all_stages()
    assert audited(line).state is State.COMPLETE
    assert len(line.rows("SELECT 1 FROM history")) == 6
    assert [row["state"] for row in line.rows("SELECT state FROM audit_runs ORDER BY started_at")] == [
        "killed",
        "missing",
        "complete",
    ]


def test_what_retention_removed_before_it_was_audited_is_said_and_not_guessed(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("first"))
    line.all_stages()
    assert audited(line).state is State.COMPLETE
    partition = partition_of(b"first", PARTITIONS)
    line.put(topics.INBOX, *(event("packed", "first") for _ in range(4)))
    line.deliver("validate", drop=everything)
    remove(line, topics.INBOX, partition, 3)
    report = audited(line)
    assert (report.state, report.topics[topics.INBOX].removed) == (State.MISSING, 2)
    assert report.missing == 2
    assert any("2 records that were never accounted for are gone" in note for note in report.notes)
    line.all_stages()
    assert audited(line).state is State.COMPLETE


def test_what_retention_removes_after_it_was_handled_is_no_news(line: Pipeline) -> None:
    line.put(topics.INBOX, *(event("packed", "first") for _ in range(4)))
    line.all_stages()
    for topic in (topics.INBOX, topics.EVENTS):
        remove(line, topic, partition_of(b"first", PARTITIONS), 3)
    report = audited(line)
    assert (report.state, report.notes) == (State.COMPLETE, [])


def test_a_change_whose_status_event_retention_removed_is_not_announced_again(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("old"))
    line.all_stages()
    remove(line, topics.STATUS, partition_of(b"old", PARTITIONS), 1)
    assert audited(line).state is State.COMPLETE
    assert line.log(topics.STATUS) == []


def test_another_content_under_the_same_id_that_was_lost_is_found(line: Pipeline) -> None:
    first = placed("twice")
    other = replace(first, data=placed("twice", shipping=500, total=3000).data)
    line.put(topics.INBOX, first)
    line.all_stages()
    line.put(topics.INBOX, other)
    line.deliver("validate")
    line.deliver("track", drop=everything)
    assert [each.topic for each in audited(line).named] == [topics.EVENTS]
    line.all_stages()
    assert [row["code"] for row in line.rows("SELECT code FROM parked")] == ["event_id_reused"]
    assert audited(line).state is State.COMPLETE


@pytest.mark.parametrize("order_id", ["used", "other"])
@pytest.mark.parametrize("later", [True, False])
def test_another_content_under_a_used_id_that_validate_never_got_is_found(
    line: Pipeline, order_id: str, *, later: bool
) -> None:
    """Later, or before anything was recorded; of the same order or of another one."""
    first = placed("used")
    other = replace(placed(order_id, shipping=500, total=3000), id=first.id)
    line.put(topics.INBOX, first)
    if later:
        line.all_stages()
        assert audited(line).state is State.COMPLETE
    line.put(topics.INBOX, other)
    line.deliver("validate", drop=lambda record: b'"shipping": 500' in (record.value or b""))
    line.all_stages()
    (named,) = audited(line).named
    assert (named.topic, named.id, named.remedy) == (topics.INBOX, first.id, Remedy.REPUBLISHED)
    line.all_stages()
    assert [row["code"] for row in line.rows("SELECT code FROM parked")] == ["event_id_reused"]
    assert audited(line).state is State.COMPLETE
    assert history(line, "used") == ["accepted"]


@pytest.mark.parametrize("early", [True, False])
def test_what_came_again_with_the_same_content_is_a_duplicate_and_no_news(
    line: Pipeline, *, early: bool
) -> None:
    sent = [placed("again"), paid("again")]
    line.put(topics.INBOX, *sent, *(sent if early else ()))
    line.all_stages()
    line.put(topics.INBOX, *(() if early else sent))
    line.all_stages()
    report = audited(line)
    assert (report.state, report.topics[topics.INBOX].handled) == (State.COMPLETE, 4)
    assert history(line, "again") == ["accepted", "paid"]


def test_what_waited_in_vain_is_parked_by_the_audit_though_no_other_event_comes(line: Pipeline) -> None:
    line.put(topics.INBOX, paid("nobody"))
    line.all_stages()
    line.rows("UPDATE waiting SET expires_at = now() - interval '1 hour' RETURNING 1")
    assert audited(line).waits_expired == 1
    line.all_stages()
    assert [row["code"] for row in line.rows("SELECT code FROM parked")] == ["waited_too_long"]


def test_each_run_leaves_a_row_with_its_report(line: Pipeline) -> None:
    line.put(topics.INBOX, placed("row"))
    line.all_stages()
    report = audited(line)
    (row,) = line.rows("SELECT state, report, started_at, finished_at FROM audit_runs")
    assert row["state"] == "complete"
    assert row["report"] == json.loads(json.dumps(report.as_dict()))
    assert row["started_at"] <= row["finished_at"] <= datetime.now(UTC)


def test_keys_go_where_kafkas_own_partitioner_puts_them(line: Pipeline) -> None:
    names = [f"{'x' * (number % 9)}{number}" for number in range(60)]
    line.put(topics.INBOX, *(placed(name) for name in names))
    log = Log({"bootstrap.servers": line.bootstrap})
    ranges = {p: (0, each.end) for p, each in log.offset_ranges(topics.INBOX).items()}
    found = [KafkaRecord.of(message) for batch in log.read(topics.INBOX, ranges) for message in batch]
    assert {record.key: record.partition for record in found} == {
        name.encode(): partition_of(name.encode(), PARTITIONS) for name in names
    }
