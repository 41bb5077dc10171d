"""Each producer of examples/storefront against the sandbox, through an intake that is now and then away: the orders
that leave the outbox arrive, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from support.events import order
from support.sandbox import Up, until

from orderflow.adapters.http.api_keys import new_key, toml
from orderflow.messaging import topics

KIT = Path(__file__).parents[2] / "examples/storefront"
BY_HTTP = {
    "curl": ["bash", str(KIT / "http_orders.sh")],
    "python": [sys.executable, str(KIT / "http_orders.py")],
    "node": ["node", str(KIT / "node/http_orders.mjs")],
}
BY_KAFKA = {
    "kcat": ["bash", str(KIT / "kafka_orders.sh")],
    "python": [sys.executable, str(KIT / "kafka_orders.py")],
    "node": ["node", str(KIT / "node/kafka_orders.mjs")],
}
ORDERS = 4


@dataclass(frozen=True)
class Shop:
    sandbox: Up
    intake_key: str
    query: httpx.Client

    def order(self, order_id: str) -> dict[str, Any] | None:
        answer = self.query.get(f"/api/orders/{order_id}")
        return answer.json() if answer.status_code == httpx.codes.OK else None


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    intake_key, intake_entry = new_key("kit", ["intake"])
    query_key, query_entry = new_key("test", ["query"])
    # Not under pytest's own folder, which the embedded PostgreSQL's user may not enter.
    with tempfile.TemporaryDirectory(prefix="orderflow-kit-") as folder:
        keys = Path(folder) / "keys.toml"
        keys.write_text(toml(intake_entry) + toml(query_entry))
        with (
            Up(Path(folder) / "state", "--keys", str(keys)) as sandbox,
            httpx.Client(
                base_url=sandbox.address.query, headers={"Authorization": f"Bearer {query_key}"}, timeout=30
            ) as query,
        ):
            yield Shop(sandbox, intake_key, query)


def outbox(folder: Path, *more: tuple[str, Any]) -> tuple[Path, list[str]]:
    """A folder with some orders, and their ids."""
    prefix = f"kit-{uuid.uuid4().hex[:8]}"
    order_ids = [f"{prefix}-{number}" for number in range(ORDERS)]
    orders = [(order_id, order(order_id=order_id)) for order_id in order_ids]
    for order_id, data in [*orders, *more]:
        (folder / f"{order_id}.json").write_text(json.dumps(data, indent=2))
    return folder, order_ids


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, str(folder)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.json"))


def must_arrive_once(shop: Shop, order_ids: list[str]) -> None:
    for order_id in order_ids:
        shop_order = until(lambda order_id=order_id: shop.order(order_id))
        assert shop_order["status"] == "accepted"
        assert [step["kind"] for step in shop_order["history"]] == ["accepted"]
        assert len(shop_order["ledger"]) == 1
        assert shop_order["parked"] == []


@dataclass
class Unsteady:
    """A proxy in front of intake. It answers the first attempt of each event with 429, loses intake's answer to the
    second attempt, and forwards every further attempt. With always, it answers every attempt with 503."""

    intake: str
    always: bool = False
    attempts: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        unsteady = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                event = self.headers.get("Idempotency-Key") or self.headers["ce-id"]
                unsteady.attempts[event] += 1
                if unsteady.always or unsteady.attempts[event] == 1:
                    self.answer(503 if unsteady.always else 429, {"Retry-After": "1"}, b"{}")
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                answer = httpx.post(unsteady.intake + self.path, content=body, headers=headers, timeout=30)
                if unsteady.attempts[event] == 2:
                    self.close_connection = True
                    return
                self.answer(answer.status_code, {}, answer.content)

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing on the test's output."""

        return Handler

    @contextmanager
    def serving(self) -> Iterator[Unsteady]:
        with ThreadingHTTPServer(("127.0.0.1", 0), self.handler()) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            yield self
            server.shutdown()


@pytest.mark.parametrize("producer", BY_HTTP)
def test_orders_arrive_once_over_http_though_answers_get_lost(
    shop: Shop, producer: str, tmp_path: Path
) -> None:
    folder, sent = outbox(tmp_path, ("unreadable", {"total": "much"}))
    with Unsteady(shop.sandbox.address.intake).serving() as intake:
        process = run(BY_HTTP[producer], folder, INTAKE=intake.url, INTAKE_KEY=shop.intake_key)
    assert process.returncode == 0, process.stderr
    assert names(folder) == []
    assert names(folder / "sent") == sent
    # The same id at every attempt, and as many attempts as it took.
    assert intake.attempts == Counter(dict.fromkeys([*sent, "unreadable"], 3))
    must_arrive_once(shop, sent)
    assert names(folder / "refused") == ["unreadable"]
    problem = json.loads((folder / "refused/unreadable.problem").read_text())
    assert problem["status"] == 400
    assert "unreadable: refused with 400" in process.stderr


@pytest.mark.parametrize("producer", BY_HTTP)
def test_what_is_not_taken_in_time_stays_in_the_outbox(shop: Shop, producer: str, tmp_path: Path) -> None:
    folder, sent = outbox(tmp_path)
    with Unsteady(shop.sandbox.address.intake, always=True).serving() as intake:
        process = run(BY_HTTP[producer], folder, INTAKE=intake.url, INTAKE_KEY=shop.intake_key, PATIENCE="2")
    assert process.returncode == 1
    assert "stays in the outbox" in process.stderr
    assert names(folder) == sent
    assert names(folder / "sent") == []


@pytest.mark.parametrize("producer", BY_KAFKA)
def test_orders_arrive_once_over_kafka_though_the_producer_starts_again(
    shop: Shop, producer: str, tmp_path: Path
) -> None:
    folder, sent = outbox(tmp_path)
    for _ in range(2):
        process = run(BY_KAFKA[producer], folder, KAFKA_BOOTSTRAP=shop.sandbox.address.kafka)
        assert process.returncode == 0, process.stderr
        assert names(folder) == []
        assert names(folder / "sent") == sent
        # As after a crash between Kafka's answer and the move.
        for file in (folder / "sent").glob("*.json"):
            file.rename(folder / file.name)
    must_arrive_once(shop, sent)


@pytest.mark.parametrize("producer", BY_KAFKA)
def test_what_kafka_does_not_confirm_stays_in_the_outbox(shop: Shop, producer: str, tmp_path: Path) -> None:
    folder, sent = outbox(tmp_path)
    process = run(BY_KAFKA[producer], folder, KAFKA_BOOTSTRAP="127.0.0.1:1", PATIENCE="2")
    assert process.returncode == 1
    assert "stays in the outbox" in process.stderr
    assert names(folder) == sent


def test_whoever_sends_an_order_it_is_the_same_event_on_the_same_partition(
    shop: Shop, tmp_path: Path
) -> None:
    folder, sent = outbox(tmp_path)
    for command in BY_KAFKA.values():
        assert run(command, folder, KAFKA_BOOTSTRAP=shop.sandbox.address.kafka).returncode == 0
        for file in (folder / "sent").glob("*.json"):
            file.rename(folder / file.name)
    by_http = run(BY_HTTP["python"], folder, INTAKE=shop.sandbox.address.intake, INTAKE_KEY=shop.intake_key)
    assert by_http.returncode == 0
    must_arrive_once(shop, sent)
    places = partitions(shop.sandbox.address.kafka, set(sent))
    assert {
        order_id: len(record_partitions) for order_id, record_partitions in places.items()
    } == dict.fromkeys(sent, 4)
    assert all(len(set(record_partitions)) == 1 for record_partitions in places.values()), places


def partitions(bootstrap: str, keys: set[str]) -> dict[str, list[int]]:
    """The partition of each record in the inbox that has one of the keys."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "kit", "enable.auto.commit": False})
    try:
        numbers = consumer.list_topics(topics.INBOX, timeout=30).topics[topics.INBOX].partitions
        ends = {
            number: consumer.get_watermark_offsets(TopicPartition(topics.INBOX, number), timeout=30)[1]
            for number in numbers
        }
        consumer.assign([TopicPartition(topics.INBOX, number, 0) for number in numbers])
        partitions_by_key: dict[str, list[int]] = {}
        remaining = sum(ends.values())
        while remaining:
            message = consumer.poll(30)
            assert message is not None, "the inbox ended too early"
            assert message.error() is None
            remaining -= 1
            key = (message.key() or b"").decode()
            if key in keys:
                partitions_by_key.setdefault(key, []).append(message.partition())
        return partitions_by_key
    finally:
        consumer.close()
