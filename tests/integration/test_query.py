"""Query through HTTP, on a real PostgreSQL, after what the other stages' own code left there."""

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import functions_framework
import httpx
import psycopg
import pytest
from pydantic import SecretStr
from support.console import NO_KAFKA, console
from support.databases import database_with_everything
from support.events import event, order, paid, placed
from support.history import HOSTILE_NAME, everything, happen, park
from support.stage import ROOT
from werkzeug.test import Client

from orderflow.adapters.http import api_keys
from orderflow.adapters.postgres.schema import migrate
from orderflow.audit.report import Missing, Remedy, Report, TopicReport
from orderflow.errors import Reason, TransientError
from orderflow.query.store.filters import OrderFilter
from orderflow.query.store.reader import Reader
from orderflow.settings import QuerySettings


@pytest.fixture(scope="module")
def shop(database_url: str) -> Iterator[str]:
    """A database for tests that only read."""
    with database_with_everything(database_url) as url:
        yield url


@pytest.fixture
def own_shop(fresh_database: str) -> str:
    everything(fresh_database)
    return fresh_database


def app(database: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Client:
    """The function as the Functions Framework serves it."""
    known = {"DATABASE_URL": database, "KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true"}
    for name, value in (known | environment).items():
        monkeypatch.setenv(name, value)
    served = functions_framework.create_app("query", str(ROOT / "functions/query.py"), "http")
    client: Client = served.test_client()
    return client


@pytest.fixture
def query(shop: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    return app(shop, monkeypatch)


def ids(client: Client, address: str) -> list[str]:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return [row["order_id"] for row in answer.json["orders"]]  # type: ignore[index]


@pytest.mark.parametrize(
    ("query_string", "expected"),
    [
        ("status=held", {"held-1"}),
        ("status=awaited", {"awaited-1"}),
        ("payment=paid", {"done-1", "late-1", "refund-1"}),
        ("payment=unpaid&status=rejected", {"rejected-1"}),
        ("attention=held", {"held-1"}),
        ("attention=awaited", {"awaited-1"}),
        ("attention=refund_due", {"refund-1"}),
        ("attention=unpaid", {"unpaid-1"}),
        ("attention=notification_failed", {"failing-1"}),
        ("q=GRACE", {"failing-1"}),
        ("q=grace+hop", {"failing-1"}),
        ("q=grace@example.org", {"failing-1"}),
        ("q=opper", set()),
        ("q=o'neil", {"hostile-1"}),
        ("q=done", {"done-1"}),
        ("q=awaited-1", {"awaited-1"}),
        ("q=%27%5C%3A*+%26+%21", set()),
        ("placed_to=2020-01-01", set()),
        ("placed_from=2026-11-23&placed_to=2026-11-23&q=yen", {"yen-1"}),
    ],
)
def test_a_filter_finds_the_orders_that_it_names(
    query: Client, query_string: str, expected: set[str]
) -> None:
    assert set(ids(query, f"/api/orders?{query_string}")) == expected


def test_the_pages_of_a_list_hold_every_order_once_forwards_and_backwards(query: Client) -> None:
    everyone = ids(query, "/api/orders")
    forwards: list[str] = []
    backwards: list[str] = []
    page: dict[str, Any] = query.get("/api/orders?limit=3").json  # type: ignore[assignment]
    assert page["newer"] is None
    while True:
        forwards += [row["order_id"] for row in page["orders"]]
        if page["older"] is None:
            break
        page = query.get(page["older"]).json  # type: ignore[assignment]
    while page["newer"] is not None:
        page = query.get(page["newer"]).json  # type: ignore[assignment]
        backwards = [row["order_id"] for row in page["orders"]] + backwards
    assert forwards == everyone
    assert len(set(everyone)) == 10
    assert everyone[: len(backwards)] == backwards
    assert len(backwards) == 9


def test_orders_of_a_time_are_paged_by_their_placing(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    days = [3, 1, 7, 5, 2, 6, 4, 4]
    for number, day in enumerate(days):
        happen(fresh_database, event("placed", f"d-{number}", order(), time=f"2026-11-{day:02}T09:00:00Z"))
    client = app(fresh_database, monkeypatch)
    page: dict[str, Any] = client.get("/api/orders?limit=3&placed_from=2026-11-02&placed_to=2026-11-06").json  # type: ignore[assignment]
    forwards = [row["order_id"] for row in page["orders"]]
    page = client.get(page["older"]).json  # type: ignore[assignment]
    forwards += [row["order_id"] for row in page["orders"]]
    assert page["older"] is None
    assert forwards == ["d-5", "d-3", "d-7", "d-6", "d-0", "d-4"]
    page = client.get(page["newer"]).json  # type: ignore[assignment]
    assert [row["order_id"] for row in page["orders"]] == forwards[:3]


def test_orders_that_changed_at_the_same_moment_are_paged_without_loss(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    happen(fresh_database, *(placed(f"same-{n}") for n in range(7)))
    with psycopg.connect(fresh_database) as connection:
        connection.execute("UPDATE orders SET updated_at = '2026-11-23T10:00:00.123456Z'")
    client = app(fresh_database, monkeypatch)
    order_ids: list[str] = []
    address = "/api/orders?limit=2"
    while address:
        page: dict[str, Any] = client.get(address).json  # type: ignore[assignment]
        order_ids += [row["order_id"] for row in page["orders"]]
        address = page["older"]
    assert sorted(order_ids) == [f"same-{n}" for n in range(7)]


def test_an_order_is_told_with_all_that_happened_to_it(query: Client) -> None:
    body: dict[str, Any] = query.get("/api/orders/done-1").json  # type: ignore[assignment]
    assert (body["status"], body["payment"]) == ("delivered", "paid")
    assert (body["total"], body["captured"], body["refunded"]) == (2900, 2900, 900)
    assert body["document"]["customer"]["email"] == "ada@example.org"
    assert [change["kind"] for change in body["history"]] == [
        *("accepted", "authorised", "paid", "packed", "shipped", "delivered", "refunded")
    ]
    outcomes = [(entry["kind"], entry["outcome"]) for entry in body["ledger"]]
    assert outcomes[-2:] == [("packed", "refused"), ("paid", "parked")]
    assert {entry["revision"] for entry in body["ledger"]} == {"track-00001"}
    assert body["ledger"][-1]["reason"]["code"] == "amount_mismatch"
    assert [parked["code"] for parked in body["parked"]] == ["amount_mismatch"]
    assert {(sent["channel"], sent["state"]) for sent in body["notifications"]} == {
        ("email", "sent"),
        ("webhook", "sent"),
    }
    assert body["placed_at"] == "2026-11-23T10:00:00.000Z"


def test_an_awaited_order_has_the_events_that_wait_for_it(query: Client) -> None:
    body: dict[str, Any] = query.get("/api/orders/awaited-1").json  # type: ignore[assignment]
    assert body["document"] == {}
    assert [waiting["kind"] for waiting in body["waiting"]] == ["cancelled", "paid"]


def test_an_order_whose_waiting_events_were_parked_needs_no_attention(
    own_shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(own_shop) as connection:
        connection.execute("DELETE FROM waiting")
    client = app(own_shop, monkeypatch)
    assert ids(client, "/api/orders?attention=awaited") == []
    assert 'href="/orders/awaited-1"' not in client.get("/").text.split("Recent orders")[0]


def test_an_order_is_found_by_its_customer_once_it_is_placed(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_database)
    client = app(fresh_database, monkeypatch)
    happen(fresh_database, paid("early-1"))
    assert ids(client, "/api/orders?q=lovelace") == []
    happen(fresh_database, placed("early-1"))
    assert ids(client, "/api/orders?q=lovelace&placed_from=2026-11-23") == ["early-1"]


def test_every_count_of_the_outcomes_is_exact(query: Client) -> None:
    body: dict[str, Any] = query.get("/api/outcomes").json  # type: ignore[assignment]
    assert body["status"] == {
        "accepted": 4,
        "awaited": 1,
        "cancelled": 1,
        "delivered": 1,
        "held": 1,
        "rejected": 1,
        "shipped": 1,
    }
    assert body["payment"] == {"paid": 3, "unpaid": 6}
    ledger: dict[str, int] = {}
    for row in body["ledger"]:
        ledger[row["outcome"]] = ledger.get(row["outcome"], 0) + row["count"]
    assert ledger == {"applied": 19, "refused": 1, "parked": 1, "waiting": 2}
    assert {(row["stage"], row["code"], row["count"]) for row in body["parked"]} == {
        ("track", "amount_mismatch", 1),
        ("validate", "int_type", 1),
    }
    assert body["waiting"] == 2
    assert {(row["channel"], row["state"]): row["count"] for row in body["notifications"]} == {
        ("email", "sent"): 18,
        ("email", "failed"): 1,
        ("webhook", "sent"): 19,
    }


def test_rates_count_the_last_minutes_by_stage(query: Client) -> None:
    body: dict[str, Any] = query.get("/api/rates").json  # type: ignore[assignment]
    totals = {(rate["stage"], rate["outcome"]): sum(rate["minutes"]) for rate in body["rates"]}
    assert totals["track", "applied"] == 19
    assert totals["validate", "accepted"] == 7
    assert totals["validate", "held"] == 1
    assert totals["shelve", "from track"] == 1
    assert totals["notify", "failed"] == 1


def test_metrics_are_what_prometheus_reads(query: Client) -> None:
    answer = query.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'orderflow_orders{status="held"} 1' in lines
    assert 'orderflow_ledger_events{kind="packed",outcome="refused",revision="track-00001"} 1' in lines
    assert "orderflow_waiting_events 2" in lines
    assert all(line.startswith("# ") or line.rpartition(" ")[2].isdigit() for line in lines)


def test_metrics_tell_how_the_last_audit_ended(own_shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(
        str(uuid.uuid4()), datetime.now(UTC), topics={"orders.inbox.v1": TopicReport(in_flight=3)}
    )
    report.add_missing(Missing("orders.inbox.v1", 0, 7, "/shop", "e-1", "o-1", "lost", Remedy.REPUBLISHED))
    with psycopg.connect(own_shop) as connection:
        connection.execute(
            "INSERT INTO audit_runs (id, started_at, finished_at, state, report) VALUES (%s, now(), now(), %s, %s)",
            [report.id, report.state, json.dumps(report.as_dict())],
        )
    lines = app(own_shop, monkeypatch).get("/metrics").text.splitlines()
    assert "orderflow_audit_complete 0" in lines
    assert "orderflow_audit_missing_events 1" in lines
    assert 'orderflow_audit_remedies{remedy="republished"} 1' in lines
    assert 'orderflow_audit_records{topic="orders.inbox.v1",fate="in_flight"} 3' in lines


def test_a_parked_event_is_shown_without_personal_data_unless_asked_for(
    own_shop: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parked_id = park(
        own_shop,
        json.dumps(order(total="much")).encode(),
        reason=Reason("int_type", "total", "no number"),
        subject="odd-1",
        kafkaheadername="Ada",
    )
    client = app(own_shop, monkeypatch)
    for address in (f"/parked/{parked_id}", f"/api/parked/{parked_id}"):
        masked = client.get(address).text
        assert "Ada" not in masked
        assert "Analytical" not in masked
        assert "MUG-BLUE" in masked
        assert "Analytical" in client.get(f"{address}?reveal=1").text
    noted = [
        json.loads(line) for line in capfd.readouterr().err.splitlines() if "personal data shown" in line
    ]
    assert [(line["parked_id"], line["client"]) for line in noted] == [(parked_id, "local")] * 2


def test_parked_events_are_filtered_by_state_stage_reason_and_order(query: Client) -> None:
    def codes(query_string: str) -> list[str]:
        body: dict[str, Any] = query.get(f"/api/parked?{query_string}").json  # type: ignore[assignment]
        return [row["code"] for row in body["parked"]]

    assert set(codes("")) == {"amount_mismatch", "int_type"}
    assert codes("stage=validate") == ["int_type"]
    assert codes("code=amount_mismatch&state=open") == ["amount_mismatch"]
    assert codes("order=done-1") == ["amount_mismatch"]
    assert codes("state=replayed") == []
    page: dict[str, Any] = query.get("/api/parked?limit=1").json  # type: ignore[assignment]
    assert query.get(page["older"]).json["parked"][0]["id"] != page["parked"][0]["id"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/api/orders/none", 404, "not_found"),
        ("/api/orders/a%00b", 404, "not_found"),
        ("/api/parked/none", 404, "not_found"),
        ("/api/orders?status=lost", 400, "bad_request"),
        ("/api/orders?page=x", 400, "bad_request"),
        ("/api/parked?colour=red", 400, "bad_request"),
        ("/api/nothing", 404, "not_found"),
    ],
)
def test_a_request_without_an_answer_is_a_problem(
    query: Client, address: str, status: int, code: str
) -> None:
    answer = query.get(address)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.data)["code"] == code


def test_a_post_to_a_read_only_address_is_refused_with_the_allowed_methods(query: Client) -> None:
    answer = query.post("/api/orders", json={"a": 1})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/orders",
        "/orders/done-1",
        "/orders/awaited-1",
        "/parked",
        "/nothing",
        "/orders?status=x",
    ],
)
def test_no_answer_lets_a_browser_run_or_fetch_what_is_not_ours(query: Client, address: str) -> None:
    answer = query.get(address, headers={"Accept": "text/html"})
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert "//cdn" not in answer.text


@pytest.mark.parametrize("address", ["/", "/orders", "/orders/hostile-1", "/orders?q=o'neil"])
def test_a_name_that_is_markup_is_shown_as_text(query: Client, address: str) -> None:
    text = query.get(address).text
    assert HOSTILE_NAME not in text
    assert "&lt;script&gt;document.title" in text


def test_an_operators_search_is_shown_as_text(query: Client) -> None:
    answer = query.get("/orders", query_string={"q": '"><script>x</script>'})
    assert answer.status_code == 200
    assert "<script>x" not in answer.text


def test_a_whole_order_id_in_the_search_opens_the_order(query: Client) -> None:
    answer = query.get("/orders?q=done-1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/orders/done-1"


def test_an_order_that_has_only_parked_events_leads_to_them(query: Client) -> None:
    answer = query.get("/orders/poison-1", follow_redirects=True)
    assert "int_type" in answer.text


def test_query_answers_nobody_without_a_key(
    shop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, entry = api_keys.new_key("desk", ["query"])
    path = tmp_path / "keys.toml"
    path.write_text(api_keys.toml(entry))
    client = app(shop, monkeypatch, API_KEYS_FILE=str(path))
    for address in ("/", "/api/orders", "/metrics", "/live", "/assets/console.css", "/nothing"):
        answer = client.get(address)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert client.get("/", auth=("desk", key)).status_code == 200
    assert client.get("/api/orders", headers={"X-API-Key": key}).status_code == 200
    assert client.get("/api/orders", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_query_does_not_start_without_keys(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        app(fresh_database, monkeypatch, LOCAL_RUN="")
    assert "API_KEYS_FILE" in capfd.readouterr().err


def test_a_database_that_is_away_is_a_503_without_a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    client = app("postgresql://127.0.0.1:1/none", monkeypatch, DATABASE_WAIT_SECONDS="0.2")
    page = client.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 503
    assert "not available" in page.text
    answer = client.get("/api/orders")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture
def reader(own_shop: str) -> Iterator[Reader]:
    opened = Reader(
        QuerySettings(
            database_url=SecretStr(own_shop),
            kafka_bootstrap=NO_KAFKA,
            database_statement_seconds=0.2,
            threads=2,
        )
    )
    yield opened
    opened.close()


def test_the_console_cannot_write(reader: Reader) -> None:
    with pytest.raises(TransientError, match="ReadOnly"), reader._pool.snapshot() as connection:
        connection.execute("DELETE FROM orders")
    assert reader.order("done-1") is not None


def test_a_statement_that_takes_too_long_is_cancelled(reader: Reader) -> None:
    with pytest.raises(TransientError, match="too long"), reader._pool.snapshot() as connection:
        connection.execute("SELECT pg_sleep(30)")
    assert reader.order("done-1") is not None


def test_the_fingerprint_of_an_order_changes_whenever_its_page_changes(own_shop: str, reader: Reader) -> None:
    fingerprints = [reader.order_fingerprint("unpaid-1")]
    for later in (paid("unpaid-1"), event("returned", "unpaid-1"), paid("unpaid-1", amount=1)):
        happen(own_shop, later)
        fingerprints.append(reader.order_fingerprint("unpaid-1"))
    assert len(set(fingerprints)) == 4
    assert reader.order_fingerprint("unpaid-1") == fingerprints[-1]


@pytest.mark.parametrize("text", ["ada", "ada lov", "done", "nobody", "a"])
def test_a_search_finds_the_same_whether_it_finds_many_or_few(shop: str, text: str) -> None:
    settings = QuerySettings(database_url=SecretStr(shop), kafka_bootstrap=NO_KAFKA)
    many, few = Reader(settings, max_matches=0), Reader(settings)
    assert many.orders(OrderFilter(q=text)) == few.orders(OrderFilter(q=text))
    many.close()
    few.close()


def test_a_page_is_as_many_orders_as_asked_for_and_one_more(reader: Reader) -> None:
    assert len(reader.orders(OrderFilter(limit=4))) == 5


@pytest.fixture
def running(own_shop: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    log = tmp_path / "query.log"
    with console(own_shop, log, THREADS="4") as address:
        yield address, log


def test_the_process_streams_what_changes_and_keeps_threads_for_pages(
    running: tuple[str, Path], own_shop: str
) -> None:
    address, log = running
    with (
        httpx.Client(base_url=address, timeout=20) as browser,
        httpx.Client(base_url=address, timeout=20) as other,
    ):
        with browser.stream("GET", "/orders/yen-1/live") as first, other.stream("GET", "/live") as second:
            assert first.headers["content-type"] == "text/event-stream; charset=utf-8"
            lines = first.iter_lines()
            overview = second.iter_lines()
            assert next(lines) == "retry: 1000"
            assert next(overview) == "retry: 1000"
            assert "event: order" in (next(lines), next(lines))
            # Both places are taken: a third reader gets one answer and is sent away, and pages are answered.
            third = httpx.get(f"{address}/live", timeout=20)
            assert third.text.startswith("retry: 10000")
            assert "event: needs" in third.text
            assert httpx.get(f"{address}/orders", timeout=20).status_code == 200
            producer = threading.Thread(target=happen, args=(own_shop, paid("yen-1", currency="JPY")))
            producer.start()
            assert any("captured" in line and "→" in line for line in lines)
            producer.join()
        httpx.get(f"{address}/orders", params={"q": "lovelace"}, timeout=20)
    assert "lovelace" not in log.read_text()


def test_the_process_serves_bootstrap_from_its_package(running: tuple[str, Path]) -> None:
    address, _ = running
    page = httpx.get(f"{address}/")
    for asset in ("/assets/console.css", "/assets/console.js", "/assets/dark.css", "/assets/icon.svg"):
        assert asset in page.text
        assert httpx.get(address + asset).status_code == 200
    assert httpx.get(f"{address}/bootstrap/assets/css/bootstrap.min.css").status_code == 200
