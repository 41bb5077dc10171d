"""Kafka or PostgreSQL dies in the middle of the load, or takes no more."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg

from orderflow_sandbox.servers.errors import ServerFailedError
from tests.chaos.errors import FaultError
from tests.chaos.faults.stages import IN_FLIGHT
from tests.chaos.scenario import Run, Scenario, pause
from tests.chaos.shop import Shop, kill
from tests.chaos.waiting import until

_DISK = "24m"
_GROWING = ("ledger", "history", "orders", "notifications")
_START_ATTEMPTS = 3


async def kafka_dies(run: Run) -> None:
    await _dies(run, 0)


async def one_broker_of_three_dies(run: Run) -> None:
    """It stays away while the load goes on: two in-sync replicas are enough, and no more than that."""
    await _dies(run, run.rolls.randrange(len(run.shop.brokers)), away=10.0)


async def _dies(run: Run, which: int, away: float = 1.0) -> None:
    broker = run.shop.brokers[which]
    for _ in range(run.scenario.runs):
        await run.mid_load()
        with run.fault():
            await kill(broker)
            await pause(away)
            await asyncio.to_thread(broker.start)


async def postgres_dies(run: Run) -> None:
    for _ in range(run.scenario.runs):
        await run.mid_load()
        with run.fault():
            await kill(run.shop.postgres)
            await pause(1.0)
            await start_postgres(run.shop)


async def start_postgres(shop: Shop) -> None:
    """Sessions of a killed postmaster may hold its memory for a moment, and it does not start next to them."""
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            await asyncio.to_thread(shop.postgres.start)
        except ServerFailedError:
            if attempt == _START_ATTEMPTS:
                raise
            await pause(1.0)
        else:
            return


async def database_is_read_only(run: Run) -> None:
    await run.mid_load()
    with run.fault():
        _execute(run.shop, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        try:
            await until(lambda: _logged(run.shop, "ReadOnlySqlTransaction"), "a write that was refused")
            await pause(8.0)
        finally:
            _execute(run.shop, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


async def disk_is_full(run: Run) -> None:
    """The tables that grow lie on a file system of their own, which is full: a real ENOSPC."""
    async with small_disk(run.shop) as disk:
        await run.mid_load()
        ballast = disk / "ballast"
        with run.fault():
            try:
                with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(8192))
                await until(lambda: _logged(run.shop, "DiskFull"), "a write that found no space")
                await pause(8.0)
            finally:
                ballast.unlink()
        await run.load.until_sent(20)


@contextlib.asynccontextmanager
async def small_disk(shop: Shop) -> AsyncIterator[Path]:
    """A tablespace on a tmpfs; mounting it takes root."""
    disk = shop.state / "disk"
    disk.mkdir()
    owner = (shop.postgres.state / "data").stat()
    own = f"size={_DISK},uid={owner.st_uid},gid={owner.st_gid},mode=700"
    try:
        await _command("mount", "-t", "tmpfs", "-o", own, "tmpfs", str(disk))
    except (OSError, subprocess.CalledProcessError) as error:
        raise FaultError("a small disk can be mounted by root only") from error
    try:
        _execute(shop, f"CREATE TABLESPACE small LOCATION '{disk}'", *_moved("small"))
        try:
            yield disk
        finally:
            _execute(shop, *_moved("pg_default"), "CHECKPOINT", "DROP TABLESPACE small")
    finally:
        # Lazily: sessions keep what was dropped open until they next look around.
        await _command("umount", "--lazy", str(disk))
        disk.rmdir()


async def _command(*words: str) -> None:
    await asyncio.to_thread(subprocess.run, words, check=True, capture_output=True)


def _moved(tablespace: str) -> list[str]:
    return [f"ALTER TABLE {table} SET TABLESPACE {tablespace}" for table in _GROWING]


def _execute(shop: Shop, *statements: str) -> None:
    with psycopg.connect(shop.database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _logged(shop: Shop, error: str) -> bool:
    """Whether track or notify said lately that the database refused them so."""
    pattern = re.compile(error.encode())
    logs = [*(shop.state / "logs").glob("track-*.log"), *(shop.state / "logs").glob("notify-*.log")]
    return any(pattern.search(log.read_bytes()) for log in logs)


SCENARIOS = [
    Scenario("kafka-dies", "kill -9 and restart of Kafka", kafka_dies, 2),
    Scenario("broker-dies", "kill -9 of 1 broker of 3, min ISR 2", one_broker_of_three_dies, brokers=3),
    Scenario("postgres-dies", "kill -9 and restart of PostgreSQL", postgres_dies, 2, IN_FLIGHT),
    Scenario("read-only", "database read-only", database_is_read_only, 1, IN_FLIGHT),
    Scenario("disk-full", "database's disk full", disk_is_full, 1, IN_FLIGHT, needs_root=True),
]
