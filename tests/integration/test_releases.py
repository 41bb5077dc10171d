"""A release judged through query, on a real PostgreSQL, by what the stages' own code left there."""

import json
from dataclasses import replace
from typing import Any

import functions_framework
import psycopg
import pytest
from support.console import NO_KAFKA
from support.releases import Release, age, minutes_ago, sell
from support.stage import ROOT
from werkzeug.test import Client

from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.rules import Rules
from orderflow.messaging.cloudevent import CloudEvent

STRICT = Rules.model_validate({"currencies": ["JPY"]})
PARKED = """
    INSERT INTO parked (id, order_id, stage, revision, reasons, code, event_type, source, event_id, topic, attributes,
                        payload, parked_at)
    SELECT 'p-' || n, 'r-1', %(stage)s, %(revision)s, '[]', %(code)s, '', '', '', '', '{}', '', now()
    FROM generate_series(1, %(count)s) AS n
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


def get(query: Client, stage: str, canary: str, **arguments: Any) -> dict[str, Any]:
    terms = {"canary": canary, "stable": f"{stage}-00001", "margin": 0.4} | arguments
    answer = query.get(f"/api/releases/{stage}", query_string=terms)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = json.loads(answer.text)
    return body


def counts(body: dict[str, Any], outcome: str) -> tuple[str, str]:
    """As texts: `bad of total`, the canary's and stable's."""
    (found,) = [each for each in body["outcomes"] if each["outcome"] == outcome]
    canary, stable = (f"{found[who]['bad']} of {found[who]['total']}" for who in ("canary", "stable"))
    return canary, stable


def with_another_field(verdict: CloudEvent) -> CloudEvent:
    data = json.loads(verdict.data)
    data["order"]["loyalty"] = "gold"
    return replace(verdict, data=json.dumps(data).encode())


def with_the_total_as_text(status: CloudEvent) -> CloudEvent:
    data = json.loads(status.data)
    return replace(status, data=json.dumps(data | {"total": str(data["total"])}).encode())


def test_a_canary_that_wrongly_rejects_is_worse(query: Client, fresh_database: str) -> None:
    sell(fresh_database, range(100), Release("validate-00002", STRICT))
    age(fresh_database, 5)
    body = get(query, "validate", "validate-00002")
    assert (body["verdict"], body["harm"]) == ("worse", True)
    assert counts(body, "rejected") == ("25 of 25", "0 of 75")
    assert body["sentence"] == "rejected 25 of 25 at the canary against 0 of 75: worse"


def test_a_canary_that_accepts_what_stable_rejects_is_different(query: Client, fresh_database: str) -> None:
    sell(fresh_database, range(100), Release("validate-00002", Rules()), Release("validate-00001", STRICT))
    age(fresh_database, 5)
    body = get(query, "validate", "validate-00002")
    assert (body["verdict"], body["harm"]) == ("different", True)
    assert "a person has to look" in body["sentence"]


def test_an_equal_canary_is_fine_once_there_is_enough_of_it(query: Client, fresh_database: str) -> None:
    sell(fresh_database, range(8), Release("validate-00002"))
    age(fresh_database, 5)
    few = get(query, "validate", "validate-00002", since=minutes_ago(15))
    assert few["verdict"] == "too_few"
    assert few["sentence"].startswith("too few: 8 of about ")
    sell(fresh_database, range(8, 160), Release("validate-00002"))
    age(fresh_database, 5)
    assert get(query, "validate", "validate-00002", since=minutes_ago(15))["verdict"] == "fine"


def test_a_verdict_that_track_cannot_read_counts_for_the_validate_that_made_it(
    query: Client, fresh_database: str
) -> None:
    """F1 of the trials: the canary had `rejected 0 of 0`, and nobody answered for 456 parked verdicts."""
    release = Release("validate-00002", verdict=with_another_field)
    sell(fresh_database, range(80), release)
    age(fresh_database, 5)
    body = get(query, "validate", "validate-00002")
    assert body["verdict"] == "worse"
    assert counts(body, "parked") == ("20 of 20", "0 of 60")
    assert body["sentence"].startswith("parked 20 of 20 at the canary against 0 of 60")
    track = get(query, "track", "track-00002")
    assert track["verdict"] == "too_few"


def test_what_track_parks_counts_for_the_intake_that_took_the_order(
    query: Client, fresh_database: str
) -> None:
    release = Release("intake-00002", verdict=with_another_field)
    sell(fresh_database, range(80), release)
    age(fresh_database, 5)
    body = get(query, "intake", "intake-00002")
    assert (body["verdict"], counts(body, "parked")) == ("worse", ("20 of 20", "0 of 60"))


def test_a_status_event_that_notify_cannot_read_counts_for_the_track_that_made_it(
    query: Client, fresh_database: str
) -> None:
    """F2 of the trials: 765 customers were told nothing, and the release was promoted."""
    release = Release("track-00002", status=with_the_total_as_text)
    sell(fresh_database, range(80), release)
    age(fresh_database, 5)
    body = get(query, "track", "track-00002")
    assert body["verdict"] == "worse"
    assert counts(body, "parked_by_notify") == ("20 of 20", "0 of 60")
    assert counts(body, "refused") == ("0 of 20", "0 of 60")


@pytest.mark.parametrize("name", ["track-00002", "notify-00002"])
def test_a_notification_that_fails_counts_for_notify_and_for_the_track_that_made_its_event(
    query: Client, fresh_database: str, name: str
) -> None:
    sell(fresh_database, range(80), Release(name, refuses=True))
    age(fresh_database, 5)
    body = get(query, name.partition("-")[0], name)
    assert (body["verdict"], counts(body, "failed")) == ("worse", ("20 of 20", "0 of 60"))


def test_a_mended_release_right_after_a_bad_one_is_judged_by_its_own(
    query: Client, fresh_database: str
) -> None:
    sell(fresh_database, range(80), Release("validate-00002", verdict=with_another_field))
    sell(fresh_database, range(80, 160), Release("validate-00002", STRICT))
    age(fresh_database, 10)
    sell(fresh_database, range(160, 320), Release("validate-00003"))
    age(fresh_database, 5)
    body = get(query, "validate", "validate-00003", since=minutes_ago(10), weight=25)
    assert (body["verdict"], body["harm"]) == ("fine", False)
    assert counts(body, "rejected") == ("0 of 40", "0 of 120")
    assert counts(body, "parked") == ("0 of 40", "0 of 120")
    assert get(query, "validate", "validate-00002", since=minutes_ago(20))["verdict"] == "worse"


def test_a_retry_of_the_same_revision_is_judged_by_its_own_time(query: Client, fresh_database: str) -> None:
    sell(fresh_database, range(80), Release("validate-00002", STRICT))
    age(fresh_database, 10)
    sell(fresh_database, range(80, 240), Release("validate-00002"))
    age(fresh_database, 5)
    assert get(query, "validate", "validate-00002", since=minutes_ago(10))["verdict"] == "fine"
    assert get(query, "validate", "validate-00002")["verdict"] == "worse"


def test_an_intake_that_forgets_orders_is_worse(query: Client, fresh_database: str) -> None:
    sell(fresh_database, range(160), Release("intake-00002", forgets=True))
    age(fresh_database, 5)
    since = minutes_ago(10)
    assert get(query, "intake", "intake-00002", since=since)["verdict"] == "too_few"
    body = get(query, "intake", "intake-00002", since=since, weight=25)
    assert body["verdict"] == "worse"
    assert (body["presence"]["canary"], body["presence"]["stable"]) == (0, 120)


def test_activity_from_before_the_share_took_effect_does_not_count(
    query: Client, fresh_database: str
) -> None:
    sell(fresh_database, range(40), Release("track-00002"))
    age(fresh_database, 5)
    terms = {"since": minutes_ago(10), "weight": 50}
    before, after = (
        get(query, "track", "track-00002", weight_since=minutes_ago(minutes), **terms)["presence"]
        for minutes in (10, 1)
    )
    assert (before["canary"], before["stable"]) == (10, 30)
    assert (after["canary"], after["stable"]) == (0, 0)


def test_at_full_weight_stable_has_nothing_to_show(query: Client) -> None:
    assert get(query, "track", "track-00002", weight=100)["presence"] is None


def test_an_interval_counts_once_it_is_over(query: Client, fresh_database: str) -> None:
    sell(fresh_database, range(4), Release("track-00002"))
    assert counts(get(query, "track", "track-00002", interval=3600), "refused") == ("0 of 0", "0 of 0")
    age(fresh_database, 120)
    assert counts(get(query, "track", "track-00002", interval=3600), "refused") == ("0 of 1", "0 of 3")


def test_what_came_before_the_canary_does_not_count(query: Client, fresh_database: str) -> None:
    sell(fresh_database, range(40), Release("validate-00009"))
    age(fresh_database, 10)
    sell(fresh_database, range(40, 44), Release("validate-00002"))
    age(fresh_database, 5)
    body = get(query, "validate", "validate-00002")
    assert counts(body, "rejected") == ("0 of 1", "0 of 3")


def test_an_event_that_waited_in_vain_is_nobodys(query: Client, fresh_database: str) -> None:
    values = {"stage": "track", "revision": "track-00002", "code": "waited_too_long", "count": 30}
    sell(fresh_database, range(80), Release("track-00002"))
    with psycopg.connect(fresh_database) as connection:
        connection.execute(PARKED, values)
    age(fresh_database, 5)
    assert counts(get(query, "track", "track-00002"), "parked") == ("0 of 20", "0 of 60")


@pytest.mark.parametrize(("stage", "outcome"), [("shelve", "parked"), ("park", "without_place")])
def test_a_stage_that_a_healthy_shop_seldom_needs_is_fine_until_something_is_found(
    query: Client, fresh_database: str, stage: str, outcome: str
) -> None:
    canary = f"{stage}-00002"
    assert get(query, stage, canary, weight=10)["verdict"] == "fine"
    sell(fresh_database, range(80), Release("validate-00002", verdict=with_another_field))
    with psycopg.connect(fresh_database) as connection:
        if stage == "park":
            connection.execute("UPDATE parked SET revision = 'park-00001', partition = 1")
        values = {"stage": "shelve", "revision": canary, "code": "text_invalid", "count": 30}
        connection.execute(PARKED, values)
    age(fresh_database, 5)
    body = get(query, stage, canary, since=minutes_ago(10))
    assert (body["verdict"], counts(body, outcome)) == ("worse", ("30 of 30", "0 of 20"))


@pytest.mark.parametrize("stage", ["intake", "validate", "track", "notify"])
def test_a_stage_without_a_trace_is_too_few(query: Client, stage: str) -> None:
    body = get(query, stage, f"{stage}-00002")
    assert (body["verdict"], body["harm"], body["since"]) == ("too_few", False, None)


def test_nothing_tells_the_revisions_of_query_apart(query: Client) -> None:
    body = get(query, "query", "query-00002", weight=10)
    assert (body["verdict"], body["outcomes"], body["presence"]) == ("fine", [], None)
    assert "nothing tells this revision of query" in body["sentence"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ("", "canary"),
        ("canary=a&stable=b&alpha=2", "alpha"),
        ("canary=a&stable=b&alhpa=0.1", "alhpa"),
        ("canary=a'--&stable=b", "canary"),
        ("canary=a&stable=b&since=yesterday", "since"),
        ("canary=a&stable=b&since=2026-11-29T08:00:00", "since"),
        ("canary=a&stable=b&weight=10&weight_since=1", "weight_since"),
        ("canary=a&stable=b&weight=101", "weight"),
        ("canary=a&stable=b&interval=0", "interval"),
        ("canary=a&stable=a", "canary"),
    ],
)
def test_a_question_that_is_wrong_is_refused_and_names_the_argument(
    query: Client, arguments: str, field: str
) -> None:
    answer = query.get(f"/api/releases/validate?{arguments}")
    assert answer.status_code == 400
    assert field in {error["field"] for error in json.loads(answer.text)["errors"]}


@pytest.mark.parametrize("arguments", ["", "?canary=a&stable=b"])
def test_an_unknown_stage_is_named_as_such_with_the_known_ones(query: Client, arguments: str) -> None:
    answer = query.get(f"/api/releases/trakc{arguments}")
    assert answer.status_code == 404
    title = json.loads(answer.text)["title"]
    assert title == ("The stage is unknown; known are intake, validate, track, notify, shelve, park, query")
