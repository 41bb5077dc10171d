"""One order through every stage, each a real process, on real Kafka and PostgreSQL. The test delivers the events."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from support.events import order, paid, placed
from support.stage import Stage
from support.topics import Tap

from orderflow.adapters.postgres.schema import migrate
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.sandbox import create_order_topics


@pytest.fixture
def stages(kafka_bootstrap: str, fresh_database: str, tmp_path: Path) -> Iterator[dict[str, Stage]]:
    migrate(fresh_database)
    create_order_topics(kafka_bootstrap, 4)
    environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "DATABASE_URL": fresh_database}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Stage(name, tmp_path / f"{name}.log", **environment))
            for name in ("intake", "validate", "track", "park", "shelve")
        }


@pytest.fixture
def tap(kafka_bootstrap: str, stages: dict[str, Stage]) -> Iterator[Tap]:
    reader = Tap(kafka_bootstrap, *topics.ALL)
    yield reader
    reader.close()


def rows(database: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def of(topic: str, order_id: str) -> Any:
    return lambda event_topic, event: event_topic == topic and event.subject == order_id


def test_an_order_passes_every_stage_once_however_often_it_is_delivered(
    stages: dict[str, Stage], tap: Tap, fresh_database: str
) -> None:
    answer = stages["intake"].http.post("/orders", json=order(), headers={"Idempotency-Key": "k1"})
    assert answer.status_code == 202
    order_id = answer.json()["order_id"]
    assert answer.headers["location"].endswith(f"/orders/{order_id}")

    for _ in range(2):
        inbox_event = tap.until(of(topics.INBOX, order_id))[0]
        assert stages["validate"].binary(inbox_event).status_code == 204
    verdicts: list[CloudEvent] = tap.until(of(topics.EVENTS, order_id), 2)
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].type == "dev.orderflow.order.accepted.v1"
    for event in verdicts:
        assert stages["track"].binary(event).status_code == 204
        assert stages["track"].structured(event).status_code == 204
    announced = tap.until(of(topics.STATUS, order_id), 4)
    assert len({event.id for event in announced}) == 1
    assert announced[0].data == announced[3].data

    assert [row["status"] for row in rows(fresh_database, "SELECT status FROM orders")] == ["accepted"]
    assert len(rows(fresh_database, "SELECT 1 FROM history")) == 1
    assert [row["revision"] for row in rows(fresh_database, "SELECT * FROM ledger")] == ["track-00001"]


def test_a_payment_before_its_order_waits_and_follows(
    stages: dict[str, Stage], tap: Tap, fresh_database: str
) -> None:
    for event in (paid("early-1"), placed("early-1")):
        assert stages["intake"].binary(event).status_code == 202
        assert stages["validate"].binary(event).status_code == 204
    payment, verdict = tap.until(of(topics.EVENTS, "early-1"), 2)
    assert stages["track"].binary(payment).status_code == 204
    assert [row["status"] for row in rows(fresh_database, "SELECT * FROM orders")] == ["awaited"]
    assert stages["track"].binary(verdict).status_code == 204
    assert [(row["status"], row["payment"]) for row in rows(fresh_database, "SELECT * FROM orders")] == [
        ("accepted", "paid")
    ]
    assert rows(fresh_database, "SELECT * FROM waiting") == []
    assert [row["outcome"] for row in rows(fresh_database, "SELECT * FROM ledger ORDER BY kind")] == [
        "applied",
        "applied",
    ]
    kinds = [json.loads(event.data)["kind"] for event in tap.until(of(topics.STATUS, "early-1"), 2)]
    assert kinds == ["accepted", "paid"]


def test_poison_is_parked_and_shelved(stages: dict[str, Stage], tap: Tap, fresh_database: str) -> None:
    bad = placed("poison-1", total=-1)
    assert stages["intake"].binary(bad).status_code == 400
    assert stages["validate"].binary(bad).status_code == 204
    parked_event = tap.until(of(topics.PARKED, "poison-1"))[0]
    for _ in range(2):
        assert stages["shelve"].binary(parked_event).status_code == 204
    (row,) = rows(fresh_database, "SELECT * FROM parked")
    assert (row["code"], row["stage"], row["order_id"], row["times"]) == (
        "greater_than_equal",
        "validate",
        "poison-1",
        2,
    )
    assert row["reasons"][0]["field"] == "total"
    assert bytes(row["payload"]) == bad.data
