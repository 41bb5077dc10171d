"""A real Prometheus scrapes query, with its key, and evaluates every rule and every panel."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from support.console import console
from support.events import event, order, placed
from support.history import everything, happen
from support.monitoring import ALERTS, EXPRESSIONS, FOREIGN, RULES
from support.prometheus import Prometheus
from support.waiting import until

from orderflow.adapters.http import api_keys
from orderflow.audit.report import Missing, Remedy, Report, TopicReport
from orderflow_sandbox.servers.postgres import create_database, drop_database

STAGES = ("intake", "validate", "track", "notify", "park", "shelve", "query")


def foreign(tick: int) -> str:
    """What others export, in small, as the scrape configuration labels it; counters count the scrapes."""
    lines = ["kafka_brokers 3", 'knrollout_troubles_total{kind="ClusterError"} 0']
    for stage in STAGES:
        whose = f'stage="{stage}",revision="{stage}-00001"'
        lines += [
            f'http_server_request_duration_seconds_count{{{whose},http_response_status_code="{status}"}} {tick * n}'
            for status, n in (("202", 9), ("503", 1))
        ]
        lines += [
            f'http_server_request_duration_seconds_bucket{{{whose},le="{limit}"}} {tick * n}'
            for limit, n in (("0.1", 9), ("+Inf", 10))
        ]
        lines.append(f"kn_serving_queue_depth{{{whose}}} 1")
        revision = (
            f'k8s_namespace_name="orderflow",kn_service_name="{stage}",kn_revision_name="{stage}-00001"'
        )
        lines += [f"kn_revision_pods_{which}{{{revision}}} 1" for which in ("count", "desired", "requested")]
        lines += [
            f'kube_pod_{what}{{namespace="orderflow",pod="{stage}-1"}} {int(time.time()) - ago}'
            for what, ago in (("created", 3), ("status_ready_time", 1))
        ]
        rollout = f'namespace="orderflow",rollout="{stage}"'
        lines += [
            f"knrollout_weight{{{rollout}}} {tick % 100}",
            f'knrollout_phase{{{rollout},phase="Progressing"}} 1',
            f'knrollout_notices_total{{{rollout},reason="Promoted"}} {tick}',
        ]
    lines += [f"knrollout_round_seconds_{what} {tick}" for what in ("sum", "count")]
    for stage, topic in (
        ("validate", "inbox"),
        ("track", "events"),
        ("notify", "status"),
        ("shelve", "parked"),
    ):
        place = f'topic="orders.{topic}.v1",partition="0"'
        lines += [
            f"kafka_topic_partition_current_offset{{{place}}} {tick}",
            f"kafka_topic_partition_in_sync_replica{{{place}}} 3",
            f'kafka_consumergroup_current_offset{{{place},consumergroup="orderflow-{stage}"}} {tick}',
            f'kafka_consumergroup_lag{{{place},consumergroup="orderflow-{stage}"}} 0',
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def others() -> Iterator[str]:
    """An address that exports what is foreign."""
    ticks = iter(range(1, 1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = foreign(next(ticks)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def watching(
    database_url: str, others: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Once it has scraped everything often enough for a rate."""
    folder = tmp_path_factory.mktemp("prometheus")
    name = f"test_{uuid.uuid4().hex}"
    own = create_database(database_url, name)
    everything(own)
    audited(own)
    rules = folder / "rules.toml"
    rules.write_text('currencies = ["EUR"]\n[stuck]\nheld = 0.000001\n')
    key, entry = api_keys.new_key("prometheus", ("query",))
    keys = folder / "keys.toml"
    keys.write_text(api_keys.toml(entry))
    environment = {"LOCAL_RUN": "", "API_KEYS_FILE": str(keys), "RULES_FILE": str(rules)}
    with console(own, folder / "query.log", **environment) as address:
        scrapes = [
            {
                "job_name": "orderflow-query",
                "static_configs": [{"targets": [address.removeprefix("http://")]}],
                "authorization": {"type": "Bearer", "credentials": key},
            },
            {
                "job_name": "orderflow-stages",
                "static_configs": [
                    {"targets": [others], "labels": {"stage": "track", "revision": "track-00001"}}
                ],
                "honor_labels": True,
            },
        ]
        with Prometheus(folder, scrapes, RULES) as prometheus:
            until(lambda: bool(prometheus.ask('count_over_time(up{job="orderflow-query"}[1m]) > 3')))
            until(lambda: bool(prometheus.ask("orderflow_waiting_events")))
            happen(own, placed("later-1"), event("placed", "later-2", order(total="much")))
            for metric in (
                'orderflow_ledger_events{kind="accepted"}',
                'orderflow_stage_outcomes{stage="validate"}',
            ):
                until(lambda metric=metric: bool(prometheus.ask(f"delta({metric}[10m]) > 0")))  # type: ignore[misc]
            yield prometheus
    drop_database(database_url, name)


def audited(database: str) -> None:
    """A run of the audit with a missing event."""
    report = Report(
        str(uuid.uuid4()), datetime.now(UTC), topics={"orders.inbox.v1": TopicReport(in_flight=3)}
    )
    report.add_missing(Missing("orders.inbox.v1", 0, 7, "/shop", "e-1", "o-1", "lost", Remedy.REPUBLISHED))
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO audit_runs (id, started_at, finished_at, state, report) VALUES (%s, now(), now(), %s, %s)",
            [report.id, report.state, json.dumps(report.as_dict())],
        )


def test_query_lets_prometheus_in_with_its_key(watching: Prometheus) -> None:
    targets = watching.get("targets")["activeTargets"]
    assert {target["labels"]["job"]: target["health"] for target in targets} == {
        "orderflow-query": "up",
        "orderflow-stages": "up",
    }


def test_every_rule_is_evaluated_without_an_error(watching: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in watching.get("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in rules()} == dict.fromkeys(
        ALERTS, ("ok", "")
    )


@pytest.mark.parametrize(("where", "query"), EXPRESSIONS, ids=[f"{n}" for n in range(len(EXPRESSIONS))])
def test_every_query_can_be_answered(watching: Prometheus, where: str, query: str) -> None:
    samples = watching.ask(query)
    # An alert is to find nothing here, and nothing is known yet of minutes ago.
    assert samples or where in ALERTS or "offset" in query, f"{where}: nothing to show"


def test_orders_are_told_by_outcome_stage_and_revision(watching: Prometheus) -> None:
    samples = watching.ask("orderflow_stage_outcomes")
    outcomes = {tuple(each["metric"][name] for name in ("stage", "outcome", "revision")) for each in samples}
    assert {
        ("track", "applied", "track-00001"),
        ("track", "refused", "track-00001"),
        ("notify", "sent", "notify-00001"),
        ("notify", "failed", "notify-00001"),
        ("validate", "parked", "validate-00001"),
    } <= outcomes


def test_what_is_foreign_is_all_that_is_made_up_here() -> None:
    made_up = {line.partition("{")[0].partition(" ")[0] for line in foreign(1).splitlines()}
    assert {name for name in made_up if not name.startswith("knrollout_")} | {"up"} == set(FOREIGN)
