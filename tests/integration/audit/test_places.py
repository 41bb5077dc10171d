"""What the audit knows of records by their places alone: transactions, poison that ends a process, topics made anew,
clocks that jump, places that nobody recorded."""

import asyncio
import contextlib
import subprocess
from dataclasses import replace

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg import sql
from support.events import event, paid, placed
from support.pipeline import PARTITIONS, Pipeline, Stages
from support.programs import program
from support.waiting import until

from orderflow.actions import parked_event
from orderflow.actions.events import ActionRequest, replay
from orderflow.adapters.kafka.gap_process import Gap
from orderflow.adapters.kafka.gap_reader import GapReader
from orderflow.adapters.kafka.kafka_record import KafkaRecord
from orderflow.adapters.kafka.log import Log, partition_of
from orderflow.adapters.postgres.handled_store import HandledStore
from orderflow.adapters.postgres.schema import migrate
from orderflow.audit.report import Remedy, Report, State
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.handled_places import HISTORY, HandledPlaces
from orderflow.messaging.places import Place
from orderflow.query.store.places import unaccounted
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.topics import admin_client


def run_audit(pipeline: Pipeline, **more: object) -> Report:
    report = pipeline.audit(**more)  # type: ignore[arg-type]
    assert report is not None
    return report


def any_record(_record: KafkaRecord) -> bool:
    return True


def kinds(pipeline: Pipeline, order_id: str) -> list[str]:
    rows = pipeline.rows("SELECT kind FROM history WHERE order_id = %s ORDER BY version", order_id)
    return [row["kind"] for row in rows]


def in_transactions(pipeline: Pipeline, *transactions: tuple[bool, list[CloudEvent]]) -> None:
    """Each transaction is whether it commits, and its events."""
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": "storefront"})
    producer.init_transactions(30)
    for commits, events in transactions:
        producer.begin_transaction()
        for each in events:
            producer.produce(topics.INBOX, each.data, each.key, headers=each.kafka_headers())
        producer.flush(30)
        (producer.commit_transaction if commits else producer.abort_transaction)(30)


def test_what_a_producer_rolled_back_is_never_sold(pipeline: Pipeline) -> None:
    rolled_back = [placed(f"rolled-back-{number}") for number in range(3)]
    committed = [placed(f"committed-{number}") for number in range(8)]
    in_transactions(pipeline, (True, committed[:4]), (False, rolled_back), (True, committed[4:]))
    pipeline.all_stages()
    report = run_audit(pipeline)
    assert (report.state, report.missing, report.named) == (State.COMPLETE, 0, [])
    assert report.topics[topics.INBOX].statuses["empty"] > 3
    assert len(pipeline.rows("SELECT 1 FROM orders")) == len(committed)
    assert run_audit(pipeline).records == 0


def test_a_committed_transaction_that_was_dropped_is_found(pipeline: Pipeline) -> None:
    in_transactions(pipeline, (True, [placed("in-a-transaction")]), (False, [placed("rolled-back")]))
    pipeline.deliver("validate", drop=any_record)
    assert [(each.order_id, each.remedy) for each in run_audit(pipeline).named] == [
        ("in-a-transaction", Remedy.REPUBLISHED)
    ]
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    assert kinds(pipeline, "in-a-transaction") == ["accepted"]


def put_with_a_header_that_is_no_utf8(pipeline: Pipeline, value: bytes) -> None:
    """confluent-kafka's own producer takes no such name."""
    command = [
        program("kcat"),
        "-P",
        "-b",
        pipeline.bootstrap,
        "-t",
        topics.INBOX,
        "-p",
        "0",
        "-H",
        b"\xff\xfe=1",
    ]
    subprocess.run(command, input=value + b"\n", check=True, timeout=60)  # type: ignore[list-item]


def test_a_record_that_ends_the_client_library_is_parked_by_its_place_and_all_others_are_judged(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, *(placed(f"before-{number}") for number in range(10)))
    put_with_a_header_that_is_no_utf8(pipeline, b"sold")
    pipeline.put(topics.INBOX, *(placed(f"after-{number}") for number in range(10)))
    pipeline.drop_unread("validate")
    report = run_audit(pipeline)
    assert report.remedies == {Remedy.REPUBLISHED: 20, Remedy.PARKED: 1}
    pipeline.all_stages()
    (parked,) = pipeline.rows("SELECT code, topic, partition, payload FROM parked")
    assert (parked["code"], parked["topic"], parked["partition"], bytes(parked["payload"])) == (
        "unreadable",
        topics.INBOX,
        0,
        b"sold",
    )
    assert run_audit(pipeline).state is State.COMPLETE
    assert len(pipeline.rows("SELECT 1 FROM orders")) == 20


def test_an_event_that_is_too_large_to_be_sent_again_is_parked(pipeline: Pipeline) -> None:
    """It fitted compressed."""
    large = replace(placed("large"), data=b'{"x":"' + b"x" * 2_500_000 + b'"}')
    producer = Producer(
        {
            "bootstrap.servers": pipeline.bootstrap,
            "compression.type": "zstd",
            "message.max.bytes": 5_000_000,
            "partitioner": "murmur2_random",
        }
    )
    producer.produce(topics.EVENTS, large.data, large.key, headers=large.kafka_headers())
    assert producer.flush(30) == 0
    pipeline.put(topics.EVENTS, event("nonsense", "next"))
    pipeline.deliver("track", drop=any_record)
    report = run_audit(pipeline)
    assert {each.remedy for each in report.named} == {Remedy.PARKED, Remedy.REPUBLISHED}
    pipeline.all_stages()
    assert run_audit(pipeline).missing == 0
    codes = {row["code"] for row in pipeline.rows("SELECT code FROM parked")}
    assert "too_large" in codes


def remake(pipeline: Pipeline, topic: str) -> None:
    """Deletes the topic and creates it anew."""
    admin = admin_client(pipeline.bootstrap)
    for future in admin.delete_topics([topic]).values():
        future.result()
    until(lambda: topic not in admin.list_topics(timeout=20).topics)
    create_order_topics(pipeline.bootstrap, PARTITIONS)


def test_a_topic_that_was_made_anew_and_grew_past_the_old_one_hides_no_lost_order(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, *(placed("old", total=3000) for _ in range(3)))
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    remake(pipeline, topics.INBOX)
    pipeline.put(topics.INBOX, *(placed(f"old-{number}") for number in range(6)))
    pipeline.deliver(
        "validate", drop=lambda record: record.attribute("subject") in {"old-0", "old-1", "old-2"}
    )
    pipeline.all_stages()
    report = run_audit(pipeline)
    assert report.state is State.MISSING
    assert {each.order_id for each in report.named} == {"old-0", "old-1", "old-2"}
    assert any("the topic was made anew" in note for note in report.notes)
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    assert all(kinds(pipeline, f"old-{number}") == ["accepted"] for number in range(6))


def test_a_topic_that_was_made_anew_is_never_called_complete_in_the_run_that_finds_it(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, placed("old"))
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    remake(pipeline, topics.INBOX)
    pipeline.move_group("validate", 0)
    assert run_audit(pipeline).state is State.UNJUDGED
    assert run_audit(pipeline).state is State.COMPLETE


def test_a_log_that_was_cut_and_grew_again_is_named_and_what_is_new_in_it_is_found(
    pipeline: Pipeline,
) -> None:
    """The records of the cut log are told by the digest of an earlier record: here the digest is changed, as a cut
    would change the record."""
    partition = partition_of(b"cut", PARTITIONS)
    pipeline.put(topics.INBOX, placed("cut"))
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    pipeline.put(topics.INBOX, paid("cut"))
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    pipeline.rows(
        'UPDATE audit_logs SET checkpoints = \'[[0, "another"], [1, "another"]]\' '
        "WHERE topic = %s AND partition = %s RETURNING 1",
        topics.INBOX,
        partition,
    )
    report = run_audit(pipeline)
    assert (report.state, report.missing) == (State.UNJUDGED, 0)
    assert any("the log was cut; from 0 on it is another one" in note for note in report.notes)
    assert run_audit(pipeline).state is State.COMPLETE


def test_the_cut_of_a_record_that_an_audit_saw_and_did_not_judge_yet_is_named(pipeline: Pipeline) -> None:
    """As above, the digest of what was seen is changed."""
    partition = partition_of(b"seen", PARTITIONS)
    pipeline.put(topics.INBOX, placed("seen"))
    assert run_audit(pipeline).topics[topics.INBOX].in_flight == 1
    pipeline.all_stages()
    changed = pipeline.rows(
        "UPDATE audit_logs SET checkpoints = '[[0, \"another\"]]' "
        "WHERE topic = %s AND partition = %s AND checkpoints::text LIKE '[[0,%%' RETURNING 1",
        topics.INBOX,
        partition,
    )
    assert len(changed) == 1
    report = run_audit(pipeline)
    assert report.state is State.UNJUDGED
    assert any("the log was cut; from 0 on it is another one" in note for note in report.notes)


def test_places_that_a_killed_process_had_not_recorded_are_looked_at_again_and_are_not_missing(
    pipeline: Pipeline,
) -> None:
    first = paid("killed")
    other_content = replace(first, data=paid("killed", amount=2800).data)
    pipeline.put(
        topics.INBOX,
        placed("killed"),
        first,
        paid("killed", amount=1),
        event("shipped", "early"),
        other_content,
    )
    pipeline.all_stages()
    pipeline.rows("DELETE FROM handled RETURNING 1")
    report = run_audit(pipeline)
    assert (report.state, report.missing) == (State.COMPLETE, 0)
    assert (report.topics[topics.EVENTS].statuses.total(), report.topics[topics.PARKED].statuses.total()) == (
        5,
        2,
    )
    assert run_audit(pipeline).records == 0
    pipeline.rows("DELETE FROM handled RETURNING 1")
    assert run_audit(pipeline).state is State.COMPLETE


def test_a_record_that_its_client_sent_six_times_is_published_again_once_and_takes_effect(
    pipeline: Pipeline,
) -> None:
    pipeline.put(topics.INBOX, *[placed("often")] * 1, *[sent := placed("six")] * 6)
    assert sent.subject == "six"
    pipeline.deliver("validate", drop=any_record)
    report = run_audit(pipeline)
    assert report.remedies == {Remedy.REPUBLISHED: 2}
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    assert (kinds(pipeline, "six"), pipeline.rows("SELECT 1 FROM parked")) == (["accepted"], [])


def test_a_producer_that_mends_its_poison_under_the_same_id_is_heard(pipeline: Pipeline) -> None:
    poison = replace(placed("mended"), data=b"{}")
    pipeline.put(topics.INBOX, poison)
    pipeline.all_stages()
    pipeline.put(topics.INBOX, replace(placed("mended"), id=poison.id))
    pipeline.deliver("validate", drop=any_record)
    assert [each.remedy for each in run_audit(pipeline).named] == [Remedy.REPUBLISHED]
    pipeline.all_stages()
    assert kinds(pipeline, "mended") == ["accepted"]
    assert run_audit(pipeline).state is State.COMPLETE


@pytest.mark.parametrize("stage", ["validate", "track"])
def test_a_replay_that_is_lost_on_its_way_is_missing_although_its_event_is_parked(
    pipeline: Pipeline, stage: str
) -> None:
    wrong = paid("replayed", amount=1)
    pipeline.put(topics.INBOX, wrong, placed("replayed"))
    pipeline.all_stages()
    assert [row["stage"] for row in pipeline.rows("SELECT stage FROM parked")] == ["track"]
    pipeline.rows(
        "INSERT INTO operator_actions (id, request, kind, order_id, by, outcome, occurred_at)"
        " VALUES ('operator-1', 'r', 'replayed', 'replayed', 'ada', 'done', now()) RETURNING 1"
    )
    pipeline.put(topics.INBOX, wrong.with_extensions(replay="operator-1"))
    if stage == "track":
        pipeline.deliver("validate")
    pipeline.deliver(stage, drop=any_record)
    (missing,) = run_audit(pipeline).named
    assert (missing.id, missing.remedy) == (
        wrong.id if stage == "validate" else missing.id,
        Remedy.REPUBLISHED,
    )
    pipeline.all_stages()
    assert run_audit(pipeline).missing == 0


@pytest.mark.parametrize("stage", ["validate", "track"])
def test_a_replay_that_no_operator_sent_is_not_missing_where_its_event_is_parked(
    pipeline: Pipeline, stage: str
) -> None:
    """Its place was not recorded. It is judged as the duplicate that it is, and not published again for ever."""
    wrong = paid("forged", amount=1)
    pipeline.put(topics.INBOX, placed("forged"), wrong)
    pipeline.all_stages()
    pipeline.put(topics.INBOX, wrong.with_extensions(replay="forged"))
    if stage == "track":
        pipeline.deliver("validate")
    pipeline.deliver(stage, drop=any_record)
    report = run_audit(pipeline)
    assert (report.state, report.named) == (State.COMPLETE, [])


def test_an_event_with_a_forged_replay_that_was_lost_keeps_its_place_in_the_sequence(
    pipeline: Pipeline,
) -> None:
    """Only an operator's replay takes effect whatever came before it."""
    held, released = event("held", "late"), event("released", "late")
    pipeline.put(topics.INBOX, placed("late"), held.with_extensions(replay="forged"))
    pipeline.deliver("validate", drop=lambda record: record.attribute("replay") != "")
    pipeline.put(topics.INBOX, released)
    pipeline.all_stages()
    assert [(each.id, each.remedy) for each in run_audit(pipeline).named] == [(held.id, Remedy.REPUBLISHED)]
    pipeline.all_stages()
    assert kinds(pipeline, "late") == ["accepted"]
    assert [row["code"] for row in pipeline.rows("SELECT code FROM parked")] == ["overtaken"]


def test_an_action_that_was_recorded_and_perhaps_not_sent_is_sent_to_shelve_again(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("half"), paid("half", amount=1))
    pipeline.all_stages()
    (row,) = pipeline.rows(f"{parked_event.SELECT}")
    action = replay(parked_event.from_row(row), ActionRequest("r-1", "ada", "2026-11-29T10:00:00Z"))
    pipeline.put(topics.PARKED, action)
    pipeline.deliver("shelve", drop=any_record)
    pipeline.rows(
        "INSERT INTO operator_actions (id, request, kind, order_id, parked_id, by, outcome, occurred_at)"
        " VALUES (%s, 'r-1', 'replayed', 'half', %s, 'ada', 'sending', now()) RETURNING 1",
        action.id,
        row["id"],
    )
    pipeline.rows(
        "UPDATE parked SET state = 'replayed', replay = %s, replayed_at = now() RETURNING 1", action.id
    )
    assert [(each.id, each.remedy) for each in run_audit(pipeline).named] == [(action.id, Remedy.REPUBLISHED)]
    pipeline.all_stages()
    assert [row["outcome"] for row in pipeline.rows("SELECT outcome FROM operator_actions")] == ["done"]
    assert pipeline.rows("SELECT replays FROM ledger WHERE kind = 'paid'") == [{"replays": [action.id]}]
    assert run_audit(pipeline).state is State.COMPLETE


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_change_that_was_never_announced_is_found_whatever_the_clock_said(
    pipeline: Pipeline, hours: int
) -> None:
    pipeline.put(topics.INBOX, placed("first"))
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    pipeline.put(topics.INBOX, placed("unannounced"))
    pipeline.deliver("validate")
    pipeline.deliver("track", dies=True)
    pipeline.rows(
        "UPDATE history SET recorded_at = recorded_at + make_interval(hours => %s) RETURNING 1", hours
    )
    assert [(each.order_id, each.remedy) for each in run_audit(pipeline).named] == [
        ("unannounced", Remedy.ANNOUNCED)
    ]
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE


def test_what_an_earlier_release_had_audited_is_not_read_again(pipeline: Pipeline) -> None:
    pipeline.put(topics.INBOX, placed("earlier"))
    pipeline.all_stages()
    pipeline.rows("DELETE FROM handled RETURNING 1")
    for topic in topics.ALL:
        for partition in range(PARTITIONS):
            end = Log({"bootstrap.servers": pipeline.bootstrap}).offset_ranges(topic)[partition].end
            pipeline.rows(
                "INSERT INTO audit_positions VALUES (%s, %s, %s) RETURNING 1", topic, partition, end
            )
    report = run_audit(pipeline)
    assert (report.state, report.records) == (State.COMPLETE, 0)


def test_a_record_that_cannot_be_unpacked_is_named_by_its_place(pipeline: Pipeline) -> None:
    """Packed, it is small; unpacked, it is larger than librdkafka's receive.message.max.bytes."""
    producer = Producer(
        {
            "bootstrap.servers": pipeline.bootstrap,
            "compression.type": "zstd",
            "message.max.bytes": 400_000_000,
        }
    )
    producer.produce(topics.EVENTS, b"good", partition=0)
    assert producer.flush(30) == 0
    producer.produce(topics.EVENTS, b"x" * 300_000_000, partition=0)
    assert producer.flush(120) == 0
    producer.produce(topics.EVENTS, b"good", partition=0)
    assert producer.flush(30) == 0

    async def read(_stages: object) -> list[KafkaRecord]:
        async with GapReader({"bootstrap.servers": pipeline.bootstrap}) as reader:
            return await reader.read(topics.EVENTS, [Gap(partition=0, first=0, end=3)])

    records = pipeline.run(read)
    assert [(record.offset, record.unreadable) for record in records] == [(0, False), (1, True), (2, False)]


def test_records_that_nobody_accounts_for_are_counted_without_reading_any_log(pipeline: Pipeline) -> None:
    def count() -> dict[str, int]:
        with psycopg.connect(pipeline.url) as connection:
            return {each.stage: each.count for each in unaccounted(connection) if each.topic != HISTORY}

    pipeline.put(topics.INBOX, *(placed(f"counted-{number}") for number in range(12)))
    pipeline.all_stages()
    assert run_audit(pipeline).state is State.COMPLETE
    assert set(count().values()) == {0}
    lost = [placed(f"lost-{number}") for number in range(8)]
    pipeline.put(topics.INBOX, *lost, *(paid(f"counted-{number}") for number in range(12)))
    pipeline.deliver("validate", drop=lambda record: record.attribute("subject").startswith("lost"))
    pipeline.all_stages()
    assert count()["validate"] == len(lost)
    assert run_audit(pipeline).missing == len(lost)
    pipeline.all_stages()
    run_audit(pipeline)
    assert count()["validate"] == 0


@pytest.mark.parametrize(
    ("age", "outcome", "state"),
    [
        pytest.param("1 hour", "", "open", id="lost"),
        pytest.param("1 minute", "", "replayed", id="on its way"),
        pytest.param("1 hour", "replays = '{r-1}'", "replayed", id="decided"),
        pytest.param("1 hour", "outcome = 'applied'", "replayed", id="took effect before"),
    ],
)
def test_a_replay_without_an_outcome_opens_its_parked_event_again(
    pipeline: Pipeline, age: str, outcome: str, state: str
) -> None:
    pipeline.put(topics.INBOX, placed("asked"), paid("asked", amount=1))
    pipeline.all_stages()
    (parked,) = pipeline.rows(
        "UPDATE parked SET state = 'replayed', replay = 'r-1', replayed_at = now() - %s::interval RETURNING id",
        age,
    )
    pipeline.rows(
        "INSERT INTO operator_actions (id, request, kind, order_id, parked_id, by, outcome, occurred_at)"
        " VALUES ('r-1', 'r', 'replayed', 'asked', %s, 'ada', 'done', now()) RETURNING 1",
        parked["id"],
    )
    if outcome:
        pipeline.rows(f"UPDATE ledger SET {outcome} WHERE kind = 'paid' RETURNING 1")
    report = run_audit(pipeline)
    assert [row["state"] for row in pipeline.rows("SELECT state FROM parked")] == [state]
    assert any("no outcome for 15 minutes" in note for note in report.notes) is (state == "open")


def test_places_whose_effects_a_restart_may_have_lost_are_left_to_the_audit(pipeline: Pipeline) -> None:
    """As after a restore, or where a replica takes over that lacks the last commits."""
    place = Place("topic", 0, 7)

    async def record(stages: Stages) -> None:
        places = HandledPlaces(HandledStore(stages.database), flush_seconds=60)
        places.add("track", topics.EVENTS, place)
        await asyncio.sleep(0.5)
        with psycopg.connect(pipeline.url.replace(f"/{name}", "/postgres", 1), autocommit=True) as connection:
            for statement in ("DROP DATABASE {} WITH (FORCE)", "CREATE DATABASE {} TEMPLATE template0"):
                connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        migrate(pipeline.url)
        for _ in range(3):
            with contextlib.suppress(TransientError):
                await places.flush()
        assert pipeline.rows("SELECT 1 FROM handled") == []
        places.add("track", topics.EVENTS, place)
        await places.flush()
        assert len(pipeline.rows("SELECT 1 FROM handled")) == 1

    with psycopg.connect(pipeline.url) as connection:
        name = connection.info.dbname
    pipeline.run(record)
