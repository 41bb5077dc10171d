"""Orders that stand too long, and numbers that are missing, on a real PostgreSQL: pages, API and metrics."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import functions_framework
import psycopg
import pytest
from pydantic import SecretStr
from support.console import NO_KAFKA
from support.events import event, paid, placed
from support.history import happen
from support.stage import ROOT
from werkzeug.test import Client

from orderflow.adapters.postgres.schema import migrate
from orderflow.domain.deadlines import GapLimits, StuckLimits
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.query.store.overdue import ORDER_IDS, Alerts
from orderflow.query.store.reader import Reader
from orderflow.settings import QuerySettings

RULES = """
[stuck]
held = 5
accepted = 6
[gaps]
hours = 2
ignored_sources = ["/one-count-for-all"]
"""


@pytest.fixture
def shop(fresh_database: str) -> str:
    migrate(fresh_database)
    return fresh_database


@pytest.fixture
def query(shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    known = {"DATABASE_URL": shop, "KAFKA_BOOTSTRAP": NO_KAFKA, "LOCAL_RUN": "true", "RULES_FILE": str(rules)}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    client: Client = functions_framework.create_app(
        "query", str(ROOT / "functions/query.py"), "http"
    ).test_client()
    return client


def execute(url: str, statement: str, *values: Any) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement, values)  # type: ignore[arg-type]


def later(url: str, hours: float) -> None:
    """As if all that is there had happened so many hours before."""
    ago = timedelta(hours=hours)
    execute(
        url,
        "UPDATE orders SET status_since = status_since - %s, payment_since = payment_since - %s",
        ago,
        ago,
    )
    execute(url, "UPDATE sequence_gaps SET since = since - %s", ago)
    execute(url, "UPDATE waiting SET expires_at = expires_at - %s", ago)


def numbered(kind: str, order_id: str, number: int, source: str = "/shop/test") -> CloudEvent:
    sent = placed(order_id) if kind == "placed" else event(kind, order_id)
    return CloudEvent(sent.type, source, sent.id, order_id, sent.time, sent.data).with_extensions(
        sequence=str(number)
    )


def listed(client: Client, code: str) -> list[str]:
    answer = client.get(f"/api/orders?attention={code}")
    assert answer.status_code == 200, answer.text
    return sorted(row["order_id"] for row in answer.json["orders"])  # type: ignore[index]


def order(client: Client, order_id: str) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/api/orders/{order_id}").json  # type: ignore[assignment]
    return body


def alerts(client: Client, order_id: str) -> dict[str, float]:
    return {alert["code"]: alert["hours"] for alert in order(client, order_id)["alerts"]}


def samples(client: Client) -> dict[str, int]:
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: int(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_an_order_over_the_shops_limit_is_counted_listed_and_told_with_the_limit(
    shop: str, query: Client
) -> None:
    happen(shop, placed("old-1"), paid("old-1"), placed("held-1"), event("held", "held-1"))
    assert alerts(query, "held-1") == {}
    later(shop, 5.5)
    happen(shop, placed("new-1"))
    assert alerts(query, "held-1") == {"stuck_held": 5}
    assert alerts(query, "old-1") == {}
    later(shop, 1)
    assert listed(query, "stuck") == ["held-1", "old-1"]
    assert listed(query, "stuck_accepted") == ["old-1"]
    counted = samples(query)
    assert counted['orderflow_orders_stuck{code="stuck_held"}'] == 1
    assert counted['orderflow_orders_stuck{code="stuck_packed"}'] == 0
    assert counted['orderflow_orders_stuck_oldest_seconds{code="stuck_held"}'] >= 6.5 * 3600
    page = query.get("/orders/held-1").text
    assert "Held for 6 h; the shop&#39;s limit is 5 h" in page
    assert "stuck_held" in page
    home = query.get("/").text
    assert "attention=stuck" in home


def test_what_happens_to_the_payment_does_not_start_the_clock_of_the_status_again(
    shop: str, query: Client
) -> None:
    happen(shop, placed("clock-1"))
    later(shop, 100)
    happen(shop, event("authorised", "clock-1", {"amount": 2900, "currency": "EUR"}))
    assert alerts(query, "clock-1") == {"stuck_accepted": 6}
    happen(shop, event("packed", "clock-1"))
    assert alerts(query, "clock-1") == {}


def test_a_payment_that_does_not_come_is_told_until_the_goods_have_gone(shop: str, query: Client) -> None:
    happen(shop, placed("owing-1"))
    later(shop, 73)
    happen(shop, event("packed", "owing-1"))
    assert alerts(query, "owing-1") == {"stuck_unpaid": 72}
    assert listed(query, "stuck_unpaid") == ["owing-1"]
    happen(shop, event("shipped", "owing-1"))
    assert listed(query, "stuck_unpaid") == []


def test_an_awaited_order_is_stuck_while_something_waits_for_it_and_then_its_page_says_what_became_of_that(
    shop: str, query: Client
) -> None:
    happen(shop, paid("awaited-1"))
    later(shop, 69)
    assert alerts(query, "awaited-1").keys() == {"stuck_awaited", "waiting_expires"}
    assert listed(query, "waiting_expires") == ["awaited-1"]
    assert samples(query)["orderflow_waiting_expires"] == 1
    execute(shop, "DELETE FROM waiting")
    assert alerts(query, "awaited-1") == {}
    assert listed(query, "stuck") == []
    assert "has waited too long and was parked" in query.get("/orders/awaited-1").text


def test_the_time_of_waiting_for_an_order_does_not_count_for_its_payment(shop: str, query: Client) -> None:
    happen(shop, event("declined", "late-1"))
    later(shop, 71)
    execute(shop, "UPDATE waiting SET expires_at = now() + interval '1 day'")
    happen(shop, placed("late-1"))
    later(shop, 2)
    assert alerts(query, "late-1") == {}


def test_numbers_that_a_producer_left_out_are_found_named_and_counted_after_a_while(
    shop: str, query: Client
) -> None:
    happen(
        shop,
        numbered("placed", "gap-1", 1),
        numbered("packed", "gap-1", 3),
        numbered("shipped", "gap-1", 7),
        numbered("placed", "whole-1", 5),
        numbered("packed", "whole-1", 7),
        numbered("shipped", "whole-1", 6),
    )
    assert [(gap["first"], gap["last"]) for gap in order(query, "gap-1")["gaps"]] == [(2, 2), (4, 6)]
    assert listed(query, "sequence_gap") == []
    later(shop, 2.5)
    assert listed(query, "sequence_gap") == ["gap-1"]
    assert alerts(query, "gap-1") == {"sequence_gap": 2}
    counted = samples(query)
    assert counted["orderflow_sequence_gaps"] == 1
    assert counted["orderflow_sequence_gaps_oldest_seconds"] >= 2.5 * 3600
    assert "Numbers 4 to 6 of /shop/test have not come" in query.get("/orders/gap-1").text
    assert order(query, "whole-1")["gaps"] == []


def test_a_gap_is_gone_once_the_missing_event_comes(shop: str, query: Client) -> None:
    happen(shop, numbered("placed", "filled-1", 1), numbered("shipped", "filled-1", 3))
    later(shop, 3)
    assert listed(query, "sequence_gap") == ["filled-1"]
    happen(shop, numbered("packed", "filled-1", 2))
    assert listed(query, "sequence_gap") == []
    assert order(query, "filled-1")["gaps"] == []


def test_a_source_that_counts_otherwise_is_left_alone_and_so_is_a_producer_that_does_not_count(
    shop: str, query: Client
) -> None:
    happen(
        shop,
        numbered("placed", "other-1", 1, "/one-count-for-all"),
        numbered("packed", "other-1", 900, "/one-count-for-all"),
        event("shipped", "other-1"),
    )
    later(shop, 3)
    assert listed(query, "sequence_gap") == []
    assert order(query, "other-1")["gaps"] == []


def test_a_need_that_nobody_knows_is_refused_with_those_that_there_are(query: Client) -> None:
    answer = query.get("/api/orders?attention=bored")
    assert answer.status_code == 400
    assert "stuck_held" in answer.json["errors"][0]["text"]  # type: ignore[index]


@pytest.fixture
def large(shop: str) -> Iterator[str]:
    """100,000 orders, most of them delivered long ago."""
    execute(
        shop,
        """INSERT INTO orders (order_id, lock, status, payment, version, placed_at, updated_at, status_since,
                               payment_since, document)
           SELECT 'n-' || n, 1,
                  CASE WHEN n %% 50 > 0 THEN 'delivered' WHEN n %% 100 > 0 THEN 'held' ELSE 'accepted' END,
                  CASE WHEN n %% 50 > 0 THEN 'paid' ELSE 'unpaid' END, 1, t, t, t, t, '{"customer": {}, "lines": []}'
           FROM generate_series(1, 100000) n, LATERAL (SELECT now() - make_interval(mins => n) AS t) t""",
    )
    with psycopg.connect(shop, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return shop


def test_limits_are_judged_by_indexes_that_hold_only_what_is_not_at_its_end(large: str) -> None:
    alerts = Alerts(StuckLimits(), GapLimits())
    settings = QuerySettings(database_url=SecretStr(large), kafka_bootstrap=NO_KAFKA)
    reader = Reader(settings, alerts)
    with reader._pool.snapshot() as connection:
        now = connection.execute("SELECT now()").fetchone()
        assert now is not None
        values = alerts._values(now[0]) | {"codes": ["stuck_held"], "limit": 20_000}
        rows = connection.execute("EXPLAIN " + ORDER_IDS.as_string(connection), values).fetchall()  # type: ignore[operator]
    plan = "\n".join(line for (line,) in rows)
    assert "orders_open" in plan
    assert "Seq Scan on orders" not in plan
    assert reader.alerts()["stuck_held"].count > 900
    reader.close()
