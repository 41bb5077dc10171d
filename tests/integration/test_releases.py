"""A release judged through query, on a real PostgreSQL, by what the stages' own code left there."""

import asyncio
import json
from collections import Counter
from typing import Any

import functions_framework
import psycopg
import pytest
from psycopg.types.json import Json
from pydantic import SecretStr
from support.console import NO_KAFKA
from support.events import placed
from support.history import RecordingPublisher
from support.places import places
from support.stage import ROOT
from werkzeug.test import Client

from orderflow.adapters.postgres.pool import Database
from orderflow.adapters.postgres.schema import migrate
from orderflow.audit.report import RecordStatus, TopicReport
from orderflow.domain.rules import Rules, Waiting
from orderflow.settings import DatabaseSettings
from orderflow.track.handler import Tracker
from orderflow.track.store import OrderStore
from orderflow.validate.handler import validate

STRICT = Rules.model_validate({"currencies": ["JPY"]})
PARKED = """
    INSERT INTO parked (id, order_id, stage, revision, reasons, code, event_type, source, event_id, topic, attributes,
                        payload, parked_at)
    VALUES ('p-1', 'r-1', %(stage)s, %(revision)s, '[]', 'no_json', '', '', '', '', '{}', '', now())
"""


@pytest.fixture
def query(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    known = {"DATABASE_URL": fresh_database, "KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true"}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    migrate(fresh_database)
    served = functions_framework.create_app("query", str(ROOT / "functions/query.py"), "http")
    client: Client = served.test_client()
    return client


def judged(url: str, revision: str, orders: range, rules: Rules) -> None:
    """Orders that one revision of validate judged, and one of track took up."""

    async def take() -> None:
        database = Database(DatabaseSettings(database_url=SecretStr(url)))
        tracker = Tracker(
            OrderStore(database, revision="track-00001", waiting=Waiting()),
            RecordingPublisher(),
            places(),
            "track-00001",
        )
        try:
            for number in orders:
                await tracker.handle(validate(placed(f"r-{number}"), rules, revision))
        finally:
            await database.close()

    asyncio.run(take())


def get(query: Client, path: str) -> dict[str, Any]:
    answer = query.get(path)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = json.loads(answer.text)
    return body


def test_a_canary_that_wrongly_rejects_is_worse(query: Client, fresh_database: str) -> None:
    judged(fresh_database, "validate-00002", range(1), Rules())
    judged(fresh_database, "validate-00001", range(1, 31), Rules())
    judged(fresh_database, "validate-00002", range(31, 50), STRICT)
    body = get(query, "/api/releases/validate?canary=validate-00002&stable=validate-00001")
    assert body["verdict"] == "worse"
    (rejected, _) = body["outcomes"]
    assert (rejected["canary"], rejected["stable"]) == ({"bad": 19, "total": 20}, {"bad": 0, "total": 30})


def test_an_equal_canary_is_fine_once_there_is_enough_of_it(query: Client, fresh_database: str) -> None:
    path = "/api/releases/validate?canary=validate-00002&stable=validate-00001&margin=0.9"
    judged(fresh_database, "validate-00002", range(5), Rules())
    judged(fresh_database, "validate-00001", range(5, 45), Rules())
    assert get(query, path)["verdict"] == "too_few"
    judged(fresh_database, "validate-00002", range(45, 75), Rules())
    assert get(query, path)["verdict"] == "fine"


def test_what_came_before_the_canary_does_not_count(query: Client, fresh_database: str) -> None:
    judged(fresh_database, "validate-00001", range(10), STRICT)
    judged(fresh_database, "validate-00002", range(10, 12), Rules())
    judged(fresh_database, "validate-00001", range(12, 15), Rules())
    body = get(query, "/api/releases/validate?canary=validate-00002&stable=validate-00001")
    assert body["outcomes"][0]["stable"] == {"bad": 0, "total": 3}


def test_a_canary_that_takes_its_share_and_shows_no_activity_is_worse(
    query: Client, fresh_database: str
) -> None:
    judged(fresh_database, "validate-00001", range(60), Rules())
    path = "/api/releases/validate?canary=validate-00002&stable=validate-00001"
    assert get(query, path)["verdict"] == "too_few"
    body = get(query, f"{path}&weight=50")
    assert (body["verdict"], body["presence"]["stable"]) == ("worse", 60)


def test_activity_from_before_the_canary_had_its_share_does_not_count(
    query: Client, fresh_database: str
) -> None:
    judged(fresh_database, "validate-00001", range(60), Rules())
    with psycopg.connect(fresh_database) as connection:
        connection.execute("UPDATE ledger SET recorded_at = now() - interval '5 minutes'")
    path = "/api/releases/validate?canary=validate-00002&stable=validate-00001&weight=50"
    assert get(query, f"{path}&seconds=60")["presence"]["stable"] == 0
    assert get(query, f"{path}&seconds=600")["presence"]["stable"] == 60


@pytest.mark.parametrize("stage", ["validate", "track", "notify"])
def test_a_parked_event_is_activity_too(query: Client, fresh_database: str, stage: str) -> None:
    with psycopg.connect(fresh_database) as connection:
        connection.execute(PARKED, {"stage": stage, "revision": f"{stage}-00002"})
    path = f"/api/releases/{stage}?canary={stage}-00002&stable={stage}-00001&weight=10"
    assert get(query, path)["presence"]["canary"] == 1


@pytest.mark.parametrize("stage", ["track", "notify"])
def test_a_stage_without_a_trace_is_too_few(query: Client, stage: str) -> None:
    path = f"/api/releases/{stage}?canary={stage}-00002&stable={stage}-00001"
    assert get(query, path)["verdict"] == "too_few"
    assert get(query, path)["since"] is None


def test_track_is_judged_by_its_own_revision(query: Client, fresh_database: str) -> None:
    judged(fresh_database, "validate-00001", range(3), Rules())
    body = get(query, "/api/releases/track?canary=track-00001&stable=track-00000")
    assert [o["canary"]["total"] for o in body["outcomes"]] == [3, 3]


def test_events_that_only_the_audit_misses_are_worse(query: Client, fresh_database: str) -> None:
    with psycopg.connect(fresh_database) as connection:
        recent = TopicReport(judged=100, statuses=Counter({RecordStatus.MISSING: 30}))
        of_the_last_release = {"read": 100, "missing": 0}
        for minutes, report in ((5, recent.as_dict()), (120, of_the_last_release)):
            topics = {"orders.status.v1": report}
            connection.execute(
                "INSERT INTO audit_runs (id, started_at, finished_at, state, report) VALUES "
                "(gen_random_uuid(), now() - make_interval(mins => %s), now(), 'missing', %s)",
                (minutes, Json({"topics": topics})),
            )
    assert get(query, "/api/releases/notify/audit?minutes=30")["verdict"] == "worse"
    assert get(query, "/api/releases/track/audit?minutes=30")["verdict"] == "too_few"


@pytest.mark.parametrize(
    "path",
    [
        "/api/releases/validate",
        "/api/releases/validate?canary=a&stable=b&alpha=2",
        "/api/releases/validate?canary=a&stable=b&alhpa=0.1",
        "/api/releases/validate?canary=a'--&stable=b",
    ],
)
def test_a_question_that_is_wrong_is_refused_and_names_the_argument(query: Client, path: str) -> None:
    assert query.get(path).status_code == 400


def test_a_stage_that_does_not_decide_about_orders_has_no_releases(query: Client) -> None:
    assert query.get("/api/releases/query?canary=a&stable=b").status_code == 404
