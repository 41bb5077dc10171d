"""An upgrade: the previous release works while the schema changes, then both releases handle the same orders in turn,
then the new release is rolled back and deployed again. Kafka and PostgreSQL are real, each stage is a process."""

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from support.console import console
from support.earlier import Release, unpacked
from support.stage import ROOT, Stage, rules_file
from support.stand_ins import StandIns
from support.topics import Tap

from orderflow.adapters.postgres.schema import MIGRATIONS, migrate, required_migrations
from orderflow.contracts.history import NoHistoryError
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.notify.model import CustomerKind
from orderflow_sandbox.messages import Message, OrderScenario
from orderflow_sandbox.report import account
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.scenarios import order_scenarios
from orderflow_sandbox.sender import SendLog

OLD, NEW = "old", "new"
STAGE_OF = {topics.EVENTS: "track", topics.STATUS: "notify", topics.PARKED: "shelve"}
STAGES = ("validate", *STAGE_OF.values())
ORDERS = 30
AGAIN_EVERY = 3
"""Each third event of an order is delivered twice, once to each release."""
DEADLINE_SECONDS = 60


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Release:
    try:
        return unpacked(tmp_path_factory.mktemp("earlier"))
    except NoHistoryError as error:
        if os.environ.get("REQUIRE_HISTORY"):
            raise
        pytest.skip(f"the previous release is not available: {error}")


class Shop:
    """The stages of both releases. active has the releases that get events. The test itself delivers the events."""

    def __init__(self, stages: dict[str, dict[str, Stage]], tap: Tap, prefix: str) -> None:
        self.stages = stages
        self.tap = tap
        self.prefix = prefix
        self.active: Sequence[str] = ()
        self.sent = SendLog()
        self.releases_of: dict[str, set[str]] = {}
        """By order: the releases that have handled one of its events."""
        self._deliveries: Counter[str] = Counter()
        self._delivered = 0

    def send(self, messages: Sequence[tuple[OrderScenario, Message]]) -> None:
        for scenario, message in messages:
            self.sent.confirm((message.event.source, message.event.id), scenario.order_id)
            self.handle("validate", message.event)

    def deliver(self) -> int:
        """Delivers the records that are new in the topics; returns their number."""
        count = 0
        self.tap.read_to_end()
        while self._delivered < len(self.tap.seen):
            topic, event = self.tap.seen[self._delivered]
            self._delivered += 1
            if event.subject.startswith(self.prefix):
                self.handle(STAGE_OF[topic], event)
                count += 1
        return count

    def handle(self, stage: str, event: CloudEvent) -> None:
        """Delivers the event to the active releases in turn, for each order."""
        turn = self._deliveries[event.subject]
        self._deliveries[event.subject] += 1
        releases = [self.active[(turn + step) % len(self.active)] for step in range(len(self.active))]
        for release in releases if turn % AGAIN_EVERY == 0 else releases[:1]:
            _deliver(self.stages[release][stage], event)
            self.releases_of.setdefault(event.subject, set()).add(release)


def _deliver(stage: Stage, event: CloudEvent) -> None:
    """Repeats the event until the stage answers 204, as a KafkaSource does. Only 503 may come before it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (response := stage.binary(event)).status_code != 204:
        assert response.status_code == 503, (
            f"{stage.name}: {response.status_code} {stage.log.read_text()[-2000:]}"
        )
        assert time.monotonic() < deadline, f"{stage.name} did not handle {event.id} in time"
        time.sleep(0.05)


def environment(name: str, kafka: str, database: str, stand_ins: StandIns, folder: Path) -> dict[str, str]:
    file = folder / "notifications.toml"
    file.write_text(stand_ins.notifications())
    servers = {"KAFKA_BOOTSTRAP": kafka, "DATABASE_URL": database}
    return servers | ({"NOTIFICATIONS_FILE": str(file)} if name == "notify" else {})


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[StandIns]:
    with StandIns(tmp_path / "stand_ins") as servers:
        yield servers


def start_stages(
    stack: ExitStack, release: str, folder: Path, environments: dict[str, dict[str, str]], **code: Any
) -> dict[str, Stage]:
    return {
        name: stack.enter_context(
            Stage(
                name,
                folder / f"{release}-{name}.log",
                **environments[name],
                K_REVISION=f"{name}-{release}",
                **code,
            )
        )
        for name in STAGES
    }


def sendings_in_rounds(prefix: str) -> tuple[list[OrderScenario], list[tuple[OrderScenario, Message]]]:
    """First the first event of every order, then the second event of every order, and so on, so that every order has
    events before, during and after the upgrade."""
    start = datetime(2026, 11, 23, 10, tzinfo=UTC)
    # Requests that intake refuses, and records that are no events, reach no database.
    chosen = [scenario for scenario in order_scenarios(ORDERS, 7, prefix, start) if scenario.end is not None]
    rounds = max(len(scenario.messages) for scenario in chosen)
    messages = [
        (scenario, scenario.messages[n])
        for n in range(rounds)
        for scenario in chosen
        if n < len(scenario.messages)
    ]
    return chosen, messages


def rows(database: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


@pytest.mark.timeout(600)
def test_old_and_new_code_handle_the_same_orders_in_turn_and_every_effect_comes_once(
    earlier: Release, kafka_bootstrap: str, fresh_database: str, stand_ins: StandIns, tmp_path: Path
) -> None:
    prefix = f"up{uuid.uuid4().hex[:10]}"
    create_order_topics(kafka_bootstrap, 4)
    migrate(fresh_database, earlier.migrations)
    environments = {
        name: environment(name, kafka_bootstrap, fresh_database, stand_ins, tmp_path) for name in STAGES
    }
    chosen, messages = sendings_in_rounds(prefix)
    parts = [messages[len(messages) * n // 5 : len(messages) * (n + 1) // 5] for n in range(5)]
    with ExitStack() as stack:
        old = start_stages(stack, OLD, tmp_path, environments, root=earlier.root, python=earlier.python)
        tap = Tap(kafka_bootstrap, *STAGE_OF)
        stack.callback(tap.close)
        shop = Shop({OLD: old}, tap, prefix)
        shop.sent.scenarios = chosen

        shop.active = [OLD]
        shop.send(parts[0])
        migrating = threading.Thread(target=migrate, args=[fresh_database])
        migrating.start()
        shop.send(parts[1])
        shop.deliver()
        migrating.join()

        shop.stages[NEW] = start_stages(stack, NEW, tmp_path, environments)
        shop.active = [OLD, NEW]
        shop.send(parts[2])
        shop.deliver()
        shop.active = [OLD]
        shop.send(parts[3])
        shop.deliver()
        shop.active = [NEW, OLD]
        shop.send(parts[4])
        while shop.deliver():
            pass
    shared = {scenario.order_id for scenario, _ in parts[2] + parts[4]}
    assert len(shared) > ORDERS / 2
    assert all(shop.releases_of[order_id] == {OLD, NEW} for order_id in shared)
    _everything_once(shop, fresh_database, stand_ins)
    _both_can_read(earlier, fresh_database, chosen[0].order_id, tmp_path)


def _everything_once(shop: Shop, database: str, stand_ins: StandIns) -> None:
    result = account(database, shop.sent, frozenset(get_args(CustomerKind)))
    assert result.unexpected == []
    assert result.missing_events == []
    assert result.missing_notifications == []
    assert result.complete

    revisions = {row["revision"] for row in rows(database, "SELECT DISTINCT revision FROM ledger")}
    assert revisions == {f"track-{OLD}", f"track-{NEW}"}
    history = rows(database, "SELECT order_id, version, source, id FROM history ORDER BY order_id, version")
    effects = Counter((row["source"], row["id"], row["order_id"]) for row in history)
    assert max(effects.values()) == 1
    versions = rows(database, "SELECT order_id, version FROM orders")
    changes = Counter(row["order_id"] for row in history)
    assert {row["order_id"]: row["version"] for row in versions} == changes

    sent = rows(database, "SELECT channel, state FROM notifications")
    assert {row["state"] for row in sent} == {"sent"}
    channels = Counter(row["channel"] for row in sent)
    counts = stand_ins.counts()
    assert (counts["mails"]["received"], counts["mails"]["repeats"]) == (channels["email"], 0)
    assert (counts["webhooks"]["taken"], counts["webhooks"]["repeats"]) == (channels["webhook"], 0)


def _both_can_read(earlier: Release, database: str, order_id: str, folder: Path) -> None:
    """The query stage of both releases shows its pages, and the fields of an order that both have are equal."""
    documents = []
    for release, code in {OLD: {"root": earlier.root, "python": earlier.python}, NEW: {}}.items():
        log = folder / f"{release}-query.log"
        with (
            console(database, log, RULES_FILE=str(rules_file()), **code) as url,  # type: ignore[arg-type]
            httpx.Client(base_url=url, timeout=30) as query,
        ):
            for path in ("/", "/orders", f"/orders/{order_id}", "/parked", "/api/orders", "/metrics"):
                assert query.get(path).status_code == 200, (release, path, log.read_text()[-2000:])
            documents.append(query.get(f"/api/orders/{order_id}").json())
    old, new = documents
    assert {name: new[name] for name in old if name in new} == old


def older_schema(database: str, folder: Path) -> str:
    """Applies every migration but the newest; returns the newest one's id."""
    shutil.copytree(MIGRATIONS, folder)
    newest = required_migrations()[-1]
    for file in folder.glob(f"{newest}.*"):
        file.unlink()
    migrate(database, folder)
    return newest


@pytest.mark.parametrize("name", ["track", "shelve", "notify", "query", "audit"])
def test_new_code_does_not_start_on_the_old_schema_and_says_what_is_missing(
    name: str, kafka_bootstrap: str, fresh_database: str, stand_ins: StandIns, tmp_path: Path
) -> None:
    newest = older_schema(fresh_database, tmp_path / "migrations")
    variables = environment("notify", kafka_bootstrap, fresh_database, stand_ins, tmp_path)
    variables |= {
        "RULES_FILE": str(ROOT / "examples/rules.toml"),
        "LOCAL_RUN": "true",
        "PATH": os.environ["PATH"],
        # Other tests leave records that no stage has confirmed.
        "AUDIT_GRACE_SECONDS": "86400",
    }

    def load() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, f"functions/{name}.py"],
            cwd=ROOT,
            env=variables | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    run = load()
    assert run.returncode == 3
    assert f"lacks {newest}: `python -m orderflow.commands.migrate`" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    migrate(fresh_database)
    assert load().returncode == 0


def test_a_stage_starts_while_the_database_is_away(stand_ins: StandIns, tmp_path: Path) -> None:
    unreachable = "postgresql://orders@127.0.0.1:1/orders"
    variables = environment("notify", "127.0.0.1:1", unreachable, stand_ins, tmp_path)
    with Stage("notify", tmp_path / "notify.log", **variables) as notify:
        (line,) = [line for line in notify.events_in_log() if "schema" in line["message"]]
    assert line["message"] == "the schema was not checked"
