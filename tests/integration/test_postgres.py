"""Migrations and their rollbacks, and the stages while PostgreSQL goes away and comes back."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from pathlib import Path

import psutil
import psycopg
import pytest
from support.events import event, paid, placed
from support.stage import Stage
from support.waiting import until
from yoyo import get_backend, read_migrations

from orderflow.adapters.postgres.schema import MIGRATION_LOCK, MIGRATIONS, migrate, required_migrations
from orderflow.domain.rules import Rules
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.validate.handler import validate
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.postgres import EmbeddedPostgres

DEADLINE_SECONDS = 30


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="orderflow-") as folder, EmbeddedPostgres(Path(folder)) as server:
        migrate(server.url)
        yield server


def judged(sent: CloudEvent) -> CloudEvent:
    return validate(sent, Rules())


def tables(database: str) -> set[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename !~ '^_?yoyo'"
    with psycopg.connect(database) as connection:
        return {name for (name,) in connection.execute(query)}


def test_the_migrations_can_be_taken_back_and_applied_again(fresh_database: str) -> None:
    applied = migrate(fresh_database)
    assert "orders" in tables(fresh_database)
    backend = get_backend(fresh_database.replace("postgresql://", "postgresql+psycopg://", 1))
    backend.rollback_migrations(backend.to_rollback(read_migrations(str(MIGRATIONS))))
    backend.connection.close()
    assert tables(fresh_database) == set()
    with psycopg.connect(fresh_database) as connection:
        functions = connection.execute(
            "SELECT proname FROM pg_proc WHERE proname LIKE 'orderflow%'"
        ).fetchall()
    assert functions == []
    assert migrate(fresh_database) == applied


def test_four_that_migrate_an_empty_database_at_once_do_not_meet(fresh_database: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [fresh_database] * 4))
    assert sorted(map(bool, applied)) == [False, False, False, True]


def test_who_was_killed_while_migrating_holds_up_nobody(fresh_database: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(fresh_database, autocommit=True) as killed:
            killed.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
            waiting = pool.submit(migrate, fresh_database)
            with pytest.raises(NotYetError):
                waiting.result(0.5)
        assert waiting.result(DEADLINE_SECONDS)


def test_a_migration_that_ended_before_it_was_noted_can_be_repeated(fresh_database: str) -> None:
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        get_backend(
            fresh_database.replace("postgresql://", "postgresql+psycopg://")
        ).ensure_internal_schema_updated()
        connection.execute(
            "ALTER TABLE _yoyo_migration ADD CONSTRAINT cut CHECK (migration_id NOT LIKE '0003%')"
        )
        with pytest.raises(psycopg.errors.CheckViolation):
            migrate(fresh_database)
        connection.execute("ALTER TABLE _yoyo_migration DROP CONSTRAINT cut")
    assert migrate(fresh_database)[0].startswith("0003")


def run_migrate(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command of the migration Job."""
    return subprocess.run(
        [sys.executable, "-m", "orderflow.commands.migrate", *flags],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_of_the_job_migrates_and_may_be_repeated(fresh_database: str, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(fresh_database)
    first, second = (run_migrate(DATABASE_URL_FILE=str(file)) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert "0001.orders" in first.stderr
    assert "applied: nothing" in second.stderr
    assert "orders" in tables(fresh_database)


def test_a_job_that_cannot_migrate_fails_and_says_why_in_one_line() -> None:
    unreachable = run_migrate(DATABASE_URL="postgresql://orders:canary@127.0.0.1:1/orders")
    assert unreachable.returncode == 1
    assert "Connection refused" in unreachable.stderr
    unset = run_migrate()
    assert unset.returncode == 2
    assert "DATABASE_URL" in unset.stderr
    for run in (unreachable, unset):
        assert len(run.stderr.splitlines()) == 1
        assert "canary" not in run.stderr


def with_one_more(folder: Path, sql: str) -> Path:
    """A copy of our migrations with one more."""
    shutil.copytree(MIGRATIONS, folder)
    (folder / "9999.more.sql").write_text(sql)
    (folder / "9999.more.rollback.sql").write_text("SELECT 1;\n")
    return folder


def index_is_valid(database: str, name: str) -> bool | None:
    with psycopg.connect(database) as connection:
        query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
        row = connection.execute(query, [name]).fetchone()
    return row[0] if row else None


def write(database: str, number: int, kind: str = "paid") -> None:
    """Writes as a stage does, and fails where it has to wait for a lock."""
    with psycopg.connect(database, options="-c lock_timeout=1s") as connection:
        connection.execute(
            "INSERT INTO ledger (source, id, order_id, kind, digest, outcome, revision, occurred_at)"
            " VALUES ('/shop', %s, 'o', %s, '', 'applied', 'r', now())",
            [str(number), kind],
        )


INDEX = """-- transactional: false
DROP INDEX CONCURRENTLY IF EXISTS ledger_more;
CREATE {unique} INDEX CONCURRENTLY ledger_more ON ledger (kind);
"""


def test_a_migration_that_would_hold_up_the_stages_gives_up_and_can_be_repeated(
    fresh_database: str, tmp_path: Path
) -> None:
    migrate(fresh_database)
    folder = with_one_more(tmp_path / "migrations", "ALTER TABLE ledger ADD COLUMN more text;\n")
    with psycopg.connect(fresh_database) as long_transaction:
        long_transaction.execute("SELECT count(*) FROM ledger")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate(fresh_database, folder)
        write(fresh_database, 1)
    assert migrate(fresh_database, folder) == ["9999.more"]


def test_the_command_says_that_it_gave_up_and_why(fresh_database: str, tmp_path: Path) -> None:
    folder = shutil.copytree(
        MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("0008.*", "0009.*", "00[1-9]?.*")
    )
    migrate(fresh_database, Path(folder))
    with psycopg.connect(fresh_database) as long_transaction:
        long_transaction.execute("SELECT count(*) FROM ledger")
        run = run_migrate(DATABASE_URL=fresh_database)
    assert run.returncode == 1
    assert "another transaction holds a table" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


def test_an_index_is_made_beside_writers_and_beside_others_who_migrate(
    fresh_database: str, tmp_path: Path
) -> None:
    migrate(fresh_database)
    folder = with_one_more(tmp_path / "migrations", INDEX.format(unique=""))
    with ThreadPoolExecutor(3) as pool:
        with psycopg.connect(fresh_database) as long_transaction:
            # CREATE INDEX CONCURRENTLY waits for every transaction that has a snapshot, such as this one.
            long_transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            long_transaction.execute("SELECT count(*) FROM ledger")
            waiting = [pool.submit(migrate, fresh_database, folder) for _ in range(3)]
            until(lambda: index_is_valid(fresh_database, "ledger_more") is False)
            for number in range(20):
                write(fresh_database, number)
        applied = [each.result(DEADLINE_SECONDS) for each in waiting]
    assert sorted(applied) == [[], [], ["9999.more"]]
    assert index_is_valid(fresh_database, "ledger_more") is True


def test_an_index_that_was_left_half_made_is_made_anew(fresh_database: str, tmp_path: Path) -> None:
    migrate(fresh_database)
    folder = with_one_more(tmp_path / "migrations", INDEX.format(unique="UNIQUE"))
    write(fresh_database, 1)
    write(fresh_database, 2)
    with pytest.raises(psycopg.errors.UniqueViolation):
        migrate(fresh_database, folder)
    assert index_is_valid(fresh_database, "ledger_more") is not True
    with psycopg.connect(fresh_database) as connection:
        connection.execute("DELETE FROM ledger WHERE id = '2'")
    assert migrate(fresh_database, folder) == ["9999.more"]
    assert index_is_valid(fresh_database, "ledger_more") is True


def test_the_command_knows_what_is_missing_without_bringing_it(fresh_database: str) -> None:
    before = run_migrate("--check", DATABASE_URL=fresh_database)
    assert before.returncode == 1
    assert all(migration in before.stderr for migration in required_migrations())
    assert tables(fresh_database) == set()
    assert run_migrate(DATABASE_URL=fresh_database).returncode == 0
    after = run_migrate("--check", DATABASE_URL=fresh_database)
    assert after.returncode == 0
    assert "the schema is up to date" in after.stderr
    misspelt = run_migrate("--chekc", DATABASE_URL=fresh_database)
    assert misspelt.returncode == 2
    assert "--chekc" in misspelt.stderr


def send_until(stage: Stage, event: CloudEvent, expected: int) -> None:
    """Repeats the event until the stage answers with the expected status; every other status must be 503."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (status := stage.binary(event).status_code) != expected:
        assert status == 503
        assert time.monotonic() < deadline


def test_a_database_that_was_killed_is_used_again_when_it_is_back(
    postgres: EmbeddedPostgres, kafka_bootstrap: str, tmp_path: Path
) -> None:
    create_order_topics(kafka_bootstrap, 4)
    environment = {
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "DATABASE_URL": postgres.url,
        "DATABASE_WAIT_SECONDS": "1",
    }
    first, second = judged(placed("gone-1")), judged(paid("gone-1"))
    with Stage("track", tmp_path / "track.log", **environment) as track:
        assert track.binary(first).status_code == 204
        assert postgres.pid is not None
        backends = psutil.Process(postgres.pid).children()
        os.kill(postgres.pid, signal.SIGKILL)
        # A backend serves its connection until it notices that the server is gone.
        _, alive = psutil.wait_procs(backends, timeout=DEADLINE_SECONDS)
        assert not alive
        for _ in range(3):
            response = track.binary(second)
            assert response.status_code == 503
            assert response.headers["retry-after"]
        postgres.stop()
        postgres.start()
        send_until(track, second, 204)
        send_until(track, first, 204)
        assert "Traceback" not in track.log.read_text()
    with psycopg.connect(postgres.url) as connection:
        rows = connection.execute("SELECT status, payment, version FROM orders").fetchall()
    assert rows == [("accepted", "paid", 2)]


def test_a_database_that_takes_no_writes_is_trouble_that_time_cures(
    postgres: EmbeddedPostgres, kafka_bootstrap: str, tmp_path: Path
) -> None:
    create_order_topics(kafka_bootstrap, 4)
    read_only = f"{postgres.url}&options=-c%20default_transaction_read_only%3Don"
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "DATABASE_URL": read_only}
    with Stage("track", tmp_path / "track.log", **environment) as track:
        assert track.binary(judged(placed("read-only"))).status_code == 503
        assert track.binary(judged(event("packed", "read-only"))).status_code == 503
    assert topics.PARKED not in track.log.read_text()
