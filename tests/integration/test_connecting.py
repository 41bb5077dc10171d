"""A stage connects to its servers while it starts, before its first event; it also starts where a server is away."""

import importlib
import socket
from pathlib import Path

import psycopg
import pytest
from support.events import placed
from support.stage import Stage
from support.waiting import until

from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.rules import Rules
from orderflow.validate.handler import validate
from orderflow_sandbox.address import free_port

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'orderflow'"


@pytest.fixture
def notifications(tmp_path: Path) -> str:
    """The notifications file of a shop without e-mails and webhooks."""
    file = tmp_path / "notifications.toml"
    file.write_text('[shop]\nname = "Shop"\nurl = "https://shop.example"\n')
    return str(file)


@pytest.mark.parametrize("stage", ["intake", "validate", "track", "notify", "park", "shelve"])
def test_a_stage_is_connected_to_kafka_before_its_first_event(
    stage: str, fresh_database: str, notifications: str, tmp_path: Path
) -> None:
    migrate(fresh_database)
    with socket.create_server(("127.0.0.1", 0)) as kafka:
        kafka.settimeout(30)
        host, port = kafka.getsockname()
        environment = {
            "KAFKA_BOOTSTRAP": f"{host}:{port}",
            "DATABASE_URL": fresh_database,
            "NOTIFICATIONS_FILE": notifications,
        }
        with Stage(stage, tmp_path / "stage.log", **environment):
            kafka.accept()[0].close()


@pytest.mark.parametrize("stage", ["track", "notify", "shelve"])
def test_a_stage_is_connected_to_the_database_before_its_first_event(
    stage: str, fresh_database: str, notifications: str, tmp_path: Path
) -> None:
    migrate(fresh_database)
    environment = {
        "KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "DATABASE_URL": fresh_database,
        "NOTIFICATIONS_FILE": notifications,
    }
    with (
        psycopg.connect(fresh_database, autocommit=True) as observer,
        Stage(stage, tmp_path / "stage.log", **environment),
    ):
        until(lambda: observer.execute(SESSIONS).fetchone() == (1,))


def test_a_database_that_is_away_fails_the_event_and_not_the_start(tmp_path: Path) -> None:
    environment = {
        "KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none",
        "DATABASE_WAIT_SECONDS": "1",
    }
    with Stage("track", tmp_path / "stage.log", **environment) as track:
        response = track.binary(validate(placed("o-1"), Rules()))
        assert response.status_code == 503
        assert "database" in response.text


def test_where_no_event_loop_runs_nothing_is_made_before_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    publishers = []
    monkeypatch.setattr("orderflow.adapters.kafka.producer.KafkaPublisher._start", publishers.append)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("RULES_FILE", "examples/rules.toml")
    monkeypatch.setenv("LOCAL_RUN", "true")
    importlib.import_module("functions.validate").build()
    assert publishers == []
