"""The same orders twice: only through good revisions, and with a bad release in between that `kn order repair` undoes.
Order for order, the end is the same, or the command lists the difference."""

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr
from support.events import event, paid, placed
from support.flow import Flow, flow
from support.stage import ROOT, Stage
from support.stand_ins import StandIns

from orderflow.adapters.kafka.producer import client_config
from orderflow.adapters.kafka.topic_ids import topic_ids
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.places import Place
from orderflow.query.clients.inbox import InboxLog
from orderflow.query.clients.topic_records import TopicRecords
from orderflow.settings import QuerySettings
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.postgres import create_database, drop_database

COMMAND = str(Path(sys.executable).with_name("kn-order"))
NAMES = ("before", "during", "rejected", "wrong amount", "through", "late")
RELEASES = [
    ("validate", "extra_field"),
    ("validate", "parking"),
    ("track", "text_total"),
    ("track", "parking"),
]


@dataclass
class Shop:
    flow: Flow
    stand_ins: StandIns
    folder: Path

    def bad(self, stage: str, fault: str, revision: str) -> Stage:
        bad_function = ROOT / "tests/cluster/canary/faulty" / f"{stage}.py"
        return Stage(
            stage,
            self.folder / f"{revision}.log",
            KAFKA_BOOTSTRAP=self.flow.bootstrap,
            DATABASE_URL=self.flow.database,
            FUNCTION_SOURCE=str(bad_function),
            FAULT=fault,
            DELIVERY_REPORT_URL="udp://127.0.0.1:9",
            K_REVISION=revision,
        )


@pytest.fixture(scope="module")
def shop(kafka_bootstrap: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    url = create_database(database_url, name := f"test_{uuid.uuid4().hex}")
    folder = tmp_path_factory.mktemp("repair")
    with StandIns(tmp_path_factory.mktemp("stand_ins")) as stand_ins:
        file = folder / "notifications.toml"
        file.write_text(stand_ins.notifications())
        own = {"NOTIFICATIONS_FILE": str(file)}
        with flow(
            kafka_bootstrap, url, folder, lambda stage: own if stage == "notify" else {}, ("notify",)
        ) as opened:
            yield Shop(opened, stand_ins, folder)
    drop_database(database_url, name)


def ids(shop: Shop, run: str) -> dict[str, str]:
    return {name: f"{shop.flow.prefix}{run}-{name.replace(' ', '-')}" for name in NAMES}


def before(order: dict[str, str]) -> list[CloudEvent]:
    return [placed(order["before"]), placed(order["late"]), paid(order["late"])]


def during(order: dict[str, str]) -> list[CloudEvent]:
    return [
        paid(order["before"]),
        placed(order["during"]),
        paid(order["during"]),
        placed(order["rejected"], total=1),
        placed(order["wrong amount"]),
        paid(order["wrong amount"], amount=1),
        placed(order["through"]),
        event("packed", order["late"]),
    ]


def after(order: dict[str, str]) -> list[CloudEvent]:
    parcel = {"carrier": "DHL", "tracking": "T1"}
    return [
        event("packed", order["before"], source="/warehouse"),
        event("shipped", order["before"], parcel, source="/warehouse"),
        paid(order["through"]),
        event("shipped", order["through"], parcel),
        event("shipped", order["during"], parcel),
        event("shipped", order["late"], parcel),
    ]


def deliver(shop: Shop, events: list[CloudEvent]) -> None:
    shop.flow.publish(*events)
    shop.flow.settle()


def run_well(shop: Shop, run: str) -> dict[str, Any]:
    order = ids(shop, run)
    for part in (before, during, after):
        deliver(shop, part(order))
    return {name: end_of(shop, order_id) for name, order_id in order.items()}


def run_with_a_bad_release(shop: Shop, run: str, stage: str, fault: str, revision: str) -> dict[str, str]:
    order = ids(shop, run)
    deliver(shop, before(order))
    stable = shop.flow.stages[stage]
    with shop.bad(stage, fault, revision) as shop.flow.stages[stage]:
        deliver(shop, during(order))
    shop.flow.stages[stage] = stable
    deliver(shop, after(order))
    return order


def end_of(shop: Shop, order_id: str) -> dict[str, Any]:
    """The order's state, its history, its open parked events, and the notifications that its receiver has."""
    rows = shop.flow.rows(
        "SELECT status, payment, captured, refunded, total FROM orders WHERE order_id = %s", order_id
    )
    history = shop.flow.rows("SELECT kind FROM history WHERE order_id = %s ORDER BY version", order_id)
    mails = Counter(mail["subject"].replace(order_id, "ORDER") for mail in shop.stand_ins.mails(order_id))
    return {
        "order": rows,
        "history": sorted(row["kind"] for row in history),
        "parked": sorted(each["code"] for each in shop.flow.parked(order_id) if each["state"] == "open"),
        "mails": mails,
        "webhooks": Counter(each["body"]["data"]["kind"] for each in shop.stand_ins.webhooks(order_id)),
    }


def repair(shop: Shop, revision: str, *options: str) -> tuple[int, dict[str, Any]]:
    with shop.flow.delivering():
        done = subprocess.run(
            [COMMAND, "repair", "--revision", revision, "--output", "json", *options],
            env={
                "PATH": os.environ["PATH"],
                "USER": "anna",
                "ORDERFLOW_SERVER": str(shop.flow.query.base_url),
            },
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def well(shop: Shop) -> dict[str, Any]:
    return run_well(shop, "well")


@pytest.mark.parametrize(("stage", "fault"), RELEASES, ids=[" ".join(each) for each in RELEASES])
def test_after_a_repair_the_orders_are_as_if_the_release_had_never_been(
    shop: Shop, well: dict[str, Any], stage: str, fault: str
) -> None:
    revision = f"{stage}-0000{RELEASES.index((stage, fault)) + 2}"
    order = run_with_a_bad_release(shop, revision, stage, fault, revision)
    harmed = {name: end_of(shop, order_id) for name, order_id in order.items()}
    assert harmed != well
    _, plan = repair(shop, revision, "--dry-run")
    assert {name: end_of(shop, order_id) for name, order_id in order.items()} == harmed
    _, done = repair(shop, revision, "--yes")
    shop.flow.settle()
    assert [step["parked_id"] for step in done["taken"]] == [step["parked_id"] for step in plan["taken"]]
    mended = {name: end_of(shop, order_id) for name, order_id in order.items()}
    different = {order[name] for name in NAMES if mended[name] != well[name]}
    without_effect = {
        action["order_id"] for action in done["outcomes"] if action["event_outcome"] in {"refused", "parked"}
    }
    assert different <= {skipped["order_id"] for skipped in done["left"]} | without_effect
    assert different <= {order["late"]}, [(mended[n], well[n]) for n in NAMES if mended[n] != well[n]]
    _, again = repair(shop, revision, "--yes")
    assert again["taken"] == []
    assert {name: end_of(shop, order_id) for name, order_id in order.items()} == mended


def test_the_inbox_gives_only_the_records_that_retention_has_left(kafka_bootstrap: str) -> None:
    create_order_topics(kafka_bootstrap, 4)
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    settings = QuerySettings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), kafka_bootstrap=kafka_bootstrap
    )
    inbox = InboxLog(TopicRecords(client_config(settings)))
    sent = [placed(f"o-{uuid.uuid4()}") for _ in range(3)]
    offsets: list[int] = []
    for each in sent:
        producer.produce(
            topics.INBOX,
            each.data,
            each.key,
            partition=3,
            headers=each.kafka_headers(),
            on_delivery=lambda _, message: offsets.append(message.offset()),
        )
        assert producer.flush(20) == 0
    topic_id = topic_ids(admin, [topics.INBOX], 20)[topics.INBOX]
    places = [Place(topic_id, 3, offset) for offset in offsets]
    assert [each.id for each in inbox.events(places).values()] == [each.id for each in sent]
    admin.delete_records([TopicPartition(topics.INBOX, 3, offsets[1])])[
        TopicPartition(topics.INBOX, 3)
    ].result(20)
    elsewhere = [Place("another-topic", 3, offsets[2]), Place(topic_id, 3, offsets[2] + 10**6)]
    assert list(inbox.events([*places, *elsewhere])) == places[1:]
