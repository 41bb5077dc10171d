"""Intake and query against their OpenAPI descriptions: requests drawn from them, and what real orders give."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis.checks import CHECKS, load_all_checks
from support.console import NO_KEEPALIVE, console
from support.described import must_be_as_described
from support.events import order, paid
from support.history import everything
from support.stage import ROOT, Stage, binary_headers

from orderflow.contracts.openapi import describe
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.postgres import create_database, drop_database

INTAKE = describe("intake", strict=True)
QUERY = describe("query", strict=True)

load_all_checks()
HELD = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
    )
]
"""Not whether what the description forbids is refused: it cannot say that binary mode needs its headers."""

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
"""For each operation, drawn anew every time: `make contracts-fuzz`. Without it a few, always the same."""
drawn = settings(
    max_examples=EXAMPLES or 8,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
intake_described = schemathesis.openapi.from_dict(INTAKE)
# Without an audit and a cluster to ask, these are 503 and 404 by design.
query_described = schemathesis.openapi.from_dict(QUERY).exclude(
    operation_id=["runAudit", "listRollouts", "readRollout"]
)


@pytest.fixture(scope="module")
def intake(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    create_order_topics(kafka_bootstrap, 4)
    log = tmp_path_factory.mktemp("intake") / "intake.log"
    with Stage("intake", log, KAFKA_BOOTSTRAP=kafka_bootstrap, PUBLIC_URL="https://shop.example/") as stage:
        yield stage


@pytest.fixture(scope="module")
def query(kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    create_order_topics(kafka_bootstrap, 4)
    name = f"test_{uuid.uuid4().hex}"
    url = create_database(database_url, name)
    everything(url)
    log = tmp_path_factory.mktemp("query") / "query.log"
    rules = str(ROOT / "examples/rules.toml")
    with console(url, log, KAFKA_BOOTSTRAP=kafka_bootstrap, RULES_FILE=rules) as address:
        yield address
    drop_database(database_url, name)


@intake_described.parametrize()
@drawn
def test_whatever_is_sent_to_intake_is_answered_as_described(case: Any, intake: Stage) -> None:
    case.call_and_validate(base_url=f"http://127.0.0.1:{intake.port}", checks=HELD, timeout=30)


@query_described.parametrize()
@drawn
def test_whatever_query_is_asked_is_answered_as_described(case: Any, query: str) -> None:
    # The Functions Framework's own router, which is before ours, knows no address with a line break.
    assume(not any("\n" in unquote(str(value)) for value in (case.path_parameters or {}).values()))
    case.call_and_validate(base_url=query, checks=HELD, timeout=30)


def must_fit(described: dict[str, Any], operation: str, answer: httpx.Response) -> Any:
    """The answer's JSON, which is as the operation's description has it."""
    must_be_as_described(described, operation, answer.status_code, answer.headers, answer.json())
    return answer.json()


def test_what_real_orders_give_is_as_described(query: str) -> None:
    with httpx.Client(base_url=query, timeout=30, limits=NO_KEEPALIVE) as client:
        listed = must_fit(QUERY, "listOrders", client.get("/api/orders"))["orders"]
        assert len(listed) > 5
        for row in listed:
            must_fit(QUERY, "readOrder", client.get(row["href"]))
        parked = must_fit(QUERY, "listParked", client.get("/api/parked"))["parked"]
        assert parked
        for row in parked:
            must_fit(QUERY, "readParked", client.get(row["href"]))
            revealed = must_fit(QUERY, "readParked", client.get(row["href"], params={"reveal": "1"}))
            assert not revealed["masked"]
        for name, path in (("readRates", "/api/rates"), ("readOutcomes", "/api/outcomes")):
            must_fit(QUERY, name, client.get(path))
        before = client.get("/api/audits/last")
        assert must_fit(QUERY, "readLastAudit", before)["status"] == 404
        revisions = {"canary": "track-00002", "stable": "track-00001"}
        must_fit(QUERY, "judgeRelease", client.get("/api/releases/track", params=revisions))
        must_fit(
            QUERY, "judgeRelease", client.get("/api/releases/track", params=revisions | {"weight": "10"})
        )
        assert must_fit(QUERY, "judgeRelease", client.get("/api/releases/trakc"))["status"] == 404
        since = revisions | {"since": "2026-11-23"}
        for more in ({}, {"all": "true"}):
            compared = client.get("/api/releases/track/shadow", params=since | more)
            assert must_fit(QUERY, "judgeReleaseByShadow", compared)["verdict"] == "unknown"


def test_what_operators_do_is_answered_as_described(query: str) -> None:
    with httpx.Client(base_url=query, timeout=30, limits=NO_KEEPALIVE) as client:
        order_id = client.get("/api/orders").json()["orders"][0]["order_id"]
        held = client.post(f"/api/orders/{order_id}/hold", json={"reason": "odd"})
        receipt = must_fit(QUERY, "holdOrder", held)
        assert held.status_code == 202
        must_fit(QUERY, "readActions", client.get(receipt["href"]))
        longer = client.post(f"/api/orders/{order_id}/extend", json={"hours": 1})
        assert must_fit(QUERY, "extendWaiting", longer)["kind"] == "extended"
        parked_id = client.get("/api/parked").json()["parked"][0]["id"]
        plan = client.post("/api/parked/replay", json={"ids": [parked_id], "dry_run": True})
        assert must_fit(QUERY, "replayMany", plan)["taken"]
        refused = client.post(f"/api/parked/{parked_id}/discard", json={})
        assert must_fit(QUERY, "discardParked", refused)["errors"][0]["field"] == "reason"


def test_what_intake_takes_is_answered_as_described(intake: Stage) -> None:
    placed = intake.http.post("/orders", json=order(), headers={"Idempotency-Key": "described"})
    assert must_fit(INTAKE, "placeOrder", placed)["status_url"] == placed.headers["location"]
    tried = must_fit(INTAKE, "tryOrder", intake.http.post("/orders/dry-run", json=order()))
    assert tried["would_be"] == "accepted"
    event = paid("described-1")
    for path, name in (("/", "sendEvent"), ("/events", "sendEventAsWell")):
        answer = intake.http.post(path, content=event.data, headers=binary_headers(event))
        assert must_fit(INTAKE, name, answer)["order_id"] == "described-1"
    refused = must_fit(INTAKE, "placeOrder", intake.http.post("/orders", json=order()))
    assert refused["errors"][0]["field"] == "Idempotency-Key"


def test_query_serves_the_contracts_of_its_own_release(query: str) -> None:
    with httpx.Client(base_url=query, timeout=30, limits=NO_KEEPALIVE) as client:
        assert must_fit(QUERY, "readOpenApi", client.get("/openapi.json"))["openapi"].startswith("3.1")
        listed = must_fit(QUERY, "listContracts", client.get("/contracts"))["contracts"]
        committed = {
            str(file.relative_to(ROOT / "contracts")) for file in (ROOT / "contracts").rglob("*.json")
        }
        assert set(listed) == committed
        for path in ("asyncapi.json", "openapi/intake.json", listed[-1]):
            must_fit(QUERY, "readContract", client.get(f"/contracts/{path}"))
        must_fit(QUERY, "readContract", client.get("/contracts/nothing.json"))
