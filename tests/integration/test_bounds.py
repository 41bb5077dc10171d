"""Nothing waits without an end: connections that go nowhere, servers that are frozen, clients that send no body.

The module has its own PostgreSQL, which a test can freeze, behind a wire that can swallow connections.
"""

import asyncio
import json
import os
import random
import signal
import string
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr
from support.databases import postgres_over_tcp
from support.events import event, paid, placed
from support.freezing import frozen
from support.stage import Stage
from support.wire import Wire

from orderflow.adapters.postgres.pool import Database
from orderflow.domain.rules import Rules
from orderflow.errors import PoisonError, TransientError
from orderflow.messaging import parked_event
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.settings import DatabaseSettings
from orderflow.validate.handler import validate
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.postgres import EmbeddedPostgres

SHORT = {"DATABASE_STATEMENT_SECONDS": "1", "DATABASE_WAIT_SECONDS": "2", "EVENT_SECONDS": "10"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with postgres_over_tcp() as server:
        yield server


@pytest.fixture
def wire(postgres: EmbeddedPostgres) -> Iterator[Wire]:
    with psycopg.connect(postgres.url) as connection:
        port = connection.info.port
    with Wire("127.0.0.1", port) as between:
        yield between


def through(wire: Wire, postgres: EmbeddedPostgres) -> str:
    with psycopg.connect(postgres.url) as connection:
        return f"postgresql://{connection.info.user}@127.0.0.1:{wire.port}/{connection.info.dbname}"


@asynccontextmanager
async def pool(url: str, **options: float) -> AsyncIterator[Database]:
    settings = DatabaseSettings(
        database_url=SecretStr(url), database_statement_seconds=1, database_wait_seconds=10
    )
    database = Database(settings, **options)
    try:
        yield database
    finally:
        await database.close()


def rows(postgres: EmbeddedPostgres, statement: str, *values: object) -> list[dict[str, Any]]:
    with psycopg.connect(postgres.url, row_factory=dict_row) as connection:
        return connection.execute(statement.encode(), values).fetchall()


async def one(database: Database, statement: str = "SELECT 1 AS one") -> Any:
    async with database.connection() as connection:
        row = await (await connection.execute(statement.encode())).fetchone()
        assert row is not None
        return next(iter(row.values()))


async def test_a_statement_over_a_connection_that_goes_nowhere_fails_and_the_next_one_works(
    postgres: EmbeddedPostgres, wire: Wire
) -> None:
    async with pool(through(wire, postgres)) as database:
        assert await one(database) == 1
        assert wire.swallow() > 0
        with pytest.raises(TransientError):
            await one(database)
        assert await one(database) == 1


async def test_a_connection_that_was_forgotten_while_idle_is_not_given_to_anybody(
    postgres: EmbeddedPostgres, wire: Wire
) -> None:
    async with pool(through(wire, postgres), check_seconds=0) as database:
        assert await one(database) == 1
        assert wire.swallow() > 0
        assert await one(database) == 1


async def test_a_statement_of_a_frozen_server_fails_and_the_server_is_used_again_afterwards(
    postgres: EmbeddedPostgres,
) -> None:
    async with pool(postgres.url) as database:
        assert await one(database) == 1
        assert postgres.pid is not None
        with frozen(postgres.pid), pytest.raises(TransientError):
            await one(database)
        assert await one(database) == 1


async def test_the_server_ends_what_takes_too_long_and_what_waits_for_a_lock(
    postgres: EmbeddedPostgres,
) -> None:
    async with pool(postgres.url) as database:
        with pytest.raises(TransientError, match="QueryCanceled"):
            await one(database, "SELECT pg_sleep(60)")
        limits = [
            await one(database, f"SELECT current_setting('{name}')")
            for name in (
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "enable_seqscan",
            )
        ]
        assert limits == ["1s", "5s", "1s", "off"]


async def test_what_the_url_says_takes_precedence(postgres: EmbeddedPostgres) -> None:
    async with pool(f"{postgres.url}&options=-c%20statement_timeout%3D7s&application_name=mine") as database:
        assert await one(database, "SELECT current_setting('statement_timeout')") == "7s"
        assert await one(database, "SELECT current_setting('application_name')") == "mine"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 / (SELECT 0)",
        "SELECT 'x'::json",
        "INSERT INTO webhook_endpoints_gone (endpoint) VALUES (NULL)",
        """INSERT INTO webhook_endpoints_gone (endpoint)
           SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n""",
    ],
)
async def test_values_that_the_database_never_takes_are_poison(
    postgres: EmbeddedPostgres, statement: str
) -> None:
    async with pool(postgres.url) as database:
        with pytest.raises(PoisonError) as poison:
            await one(database, statement)
        assert poison.value.reasons[0].code == "not_storable"


@pytest.mark.parametrize(
    "statement",
    ["SELECT pg_terminate_backend(pg_backend_pid())", "SET transaction_read_only = on; CREATE TABLE t ()"],
)
async def test_what_time_cures_is_no_poison(postgres: EmbeddedPostgres, statement: str) -> None:
    async with pool(postgres.url) as database:
        with pytest.raises(TransientError):
            await one(database, statement)


def judged(sent: CloudEvent) -> CloudEvent:
    return validate(sent, Rules())


@pytest.fixture(scope="module")
def kafka(kafka_bootstrap: str) -> str:
    create_order_topics(kafka_bootstrap, 4)
    return kafka_bootstrap


def test_a_stage_whose_connections_go_nowhere_takes_every_order_again_soon(
    postgres: EmbeddedPostgres, wire: Wire, kafka: str, tmp_path: Path
) -> None:
    url = through(wire, postgres)
    orders = [f"nowhere-{number}" for number in range(12)]
    with (
        Stage("track", tmp_path / "track.log", DATABASE_URL=url, KAFKA_BOOTSTRAP=kafka, **SHORT) as track,
        ThreadPoolExecutor(12) as threads,
    ):
        first = list(threads.map(lambda order: track.binary(judged(placed(order))).status_code, orders))
        assert set(first) == {204}
        assert wire.swallow() > 0

        def delivered(order: str) -> list[int]:
            """As KafkaSource does: again until it is taken."""
            answers: list[int] = []
            while not answers or answers[-1] != 204:
                answers.append(track.binary(judged(paid(order))).status_code)
                assert len(answers) < 12, answers
            return answers

        answers = list(threads.map(delivered, orders))
    assert {code for each in answers for code in each} <= {204, 503}
    assert any(503 in each for each in answers)
    for order in orders:
        assert [
            row["kind"]
            for row in rows(postgres, "SELECT kind FROM history WHERE order_id = %s ORDER BY version", order)
        ] == ["accepted", "paid"]


def test_a_stage_says_whether_it_is_alive(postgres: EmbeddedPostgres, kafka: str, tmp_path: Path) -> None:
    with Stage("track", tmp_path / "track.log", DATABASE_URL=postgres.url, KAFKA_BOOTSTRAP=kafka) as track:
        assert track.http.get("/livez").status_code == 204
        assert track.http.get("/").status_code == 405


def test_sigterm_under_load_ends_or_refuses_what_is_in_flight_and_nothing_takes_effect_twice(
    postgres: EmbeddedPostgres, kafka: str, tmp_path: Path
) -> None:
    events = [judged(placed(f"term-{number}")) for number in range(150)]
    environment = {"DATABASE_URL": postgres.url, "KAFKA_BOOTSTRAP": kafka}
    track = Stage("track", tmp_path / "track.log", **environment)

    def delivered(sent: CloudEvent) -> int:
        try:
            return track.binary(sent).status_code
        except httpx.TransportError:
            return 0

    with track, ThreadPoolExecutor(32) as threads:
        answers = threads.map(delivered, events)
        assert next(answers) == 204
        os.kill(track.pid, signal.SIGTERM)
        track.stop(signal.SIGTERM)
        codes = [204, *answers]
    assert set(codes) <= {204, 503, 0}
    assert 0 in codes, "the process ended only after the load"
    stored = {
        row["order_id"]
        for row in rows(postgres, "SELECT order_id FROM history WHERE order_id LIKE 'term-%%'")
    }
    assert {sent.subject for sent, code in zip(events, codes, strict=True) if code == 204} <= stored
    with Stage("track", tmp_path / "again.log", **environment) as track:
        assert {delivered(sent) for sent in events} == {204}
    counts = rows(postgres, "SELECT order_id, count(*) FROM history WHERE order_id LIKE 'term-%%' GROUP BY 1")
    assert {row["order_id"]: row["count"] for row in counts} == {sent.subject: 1 for sent in events}


def test_a_parked_event_with_ids_of_any_length_is_stored(
    postgres: EmbeddedPostgres, kafka: str, tmp_path: Path
) -> None:
    """Random text, because PostgreSQL compresses what is regular."""
    rolls = random.Random(7)  # noqa: S311 - not for secrets
    source, event_id = (
        "".join(rolls.choices(string.ascii_letters + string.digits, k=4000)) for _ in range(2)
    )
    attributes = {"type": "x", "source": source, "id": event_id, "subject": "long"}
    received = parked_event.ReceivedEvent.of_request(
        [(f"ce-{name}".encode(), value.encode()) for name, value in attributes.items()], b"{"
    )
    reasons = [parked_event.Reason("no_json", "", "this is not JSON")]
    parked = parked_event.parked(received, stage="validate", revision="r", reasons=reasons)
    with Stage("shelve", tmp_path / "shelve.log", DATABASE_URL=postgres.url, KAFKA_BOOTSTRAP=kafka) as shelve:
        assert shelve.binary(parked).status_code == 204
    (row,) = rows(postgres, "SELECT source, event_id FROM parked WHERE id = %s", parked.id)
    assert (row["source"], row["event_id"]) == (source[:2048], event_id[:2048])


def test_only_so_many_events_wait_for_one_order_and_a_replay_may_bring_back_the_others(
    postgres: EmbeddedPostgres, kafka: str, tmp_path: Path
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("[waiting]\nper_order = 3\n")
    early = [judged(event("packed", "crowd", id=f"crowd-{number}")) for number in range(5)]
    environment = {"DATABASE_URL": postgres.url, "KAFKA_BOOTSTRAP": kafka, "RULES_FILE": str(file)}
    with Stage("track", tmp_path / "track.log", **environment) as track:
        assert {track.binary(each).status_code for each in early} == {204}
        logged = track.events_in_log()
    assert len(rows(postgres, "SELECT FROM waiting WHERE order_id = 'crowd'")) == 3
    assert len(rows(postgres, "SELECT FROM ledger WHERE order_id = 'crowd'")) == 3
    assert [line["reason"] for line in logged if line["message"] == "parked"] == ["too_many_wait"] * 2


def test_a_client_that_does_not_send_its_body_is_refused(kafka: str, tmp_path: Path) -> None:
    with Stage("intake", tmp_path / "intake.log", KAFKA_BOOTSTRAP=kafka) as intake:

        async def half() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
            writer.write(
                b"POST /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: slow\r\n"
                b"Content-Length: 500\r\n\r\n{"
            )
            await writer.drain()
            answer = await reader.read()
            writer.close()
            return answer

        answer = asyncio.run(half())
    assert answer.startswith(b"HTTP/1.1 408")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_too_slow"
