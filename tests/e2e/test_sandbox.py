"""The whole pipeline on one machine, as a user runs it."""

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import httpx
import psutil
import psycopg
import pytest
import yaml
from confluent_kafka import Producer
from support.events import order, paid, placed
from support.sandbox import (
    Up,
    last_line,
    left_behind,
    orderflow,
    orderflow_in_process,
    three_free_ports,
    until,
)

from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.sandbox import ROOT

DISORDER = """\
order_id,status,purchased,approved,shipped,delivered,estimated
plain,delivered,2017-10-02T10:56Z,2017-10-02T11:07Z,2017-10-04T19:55Z,2017-10-10T21:25Z,2017-10-18T00:00Z
shipped-first,delivered,2017-10-02T10:56Z,2017-10-05T11:07Z,2017-10-04T19:55Z,2017-10-10T21:25Z,
called-off,canceled,2017-10-02T10:56Z,2017-10-02T11:07Z,,,
called-off-too-late,canceled,2017-10-02T10:56Z,2017-10-02T11:07Z,2017-10-03T10:00Z,,
handed-over-before-it-was-bought,shipped,2017-10-02T10:56Z,2017-10-02T11:07Z,2017-10-02T10:00Z,,
never-ends,processing,2017-10-02T10:56Z,2017-10-02T11:07Z,,,
never-paid,created,2017-10-02T10:56Z,,,,
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one sandbox. All tests share it, since each start takes as long as most tests; each has orders of
    its own."""
    return tmp_path_factory.mktemp("sandbox") / "state"


@pytest.fixture(scope="module")
def first_run(state: Path) -> CompletedProcess[str]:
    """The demonstration on an empty folder, in a sandbox for this time only."""
    port = str(three_free_ports())
    return orderflow("demo", "--orders", "40", "--state", str(state), "--partitions", "8", "--port", port)


@pytest.fixture(scope="module")
def up(first_run: CompletedProcess[str], state: Path) -> Iterator[Up]:
    """The second run on the folder of the demonstration."""
    assert left_behind(state) == []
    with Up(state) as sandbox:
        yield sandbox


def test_a_realistic_stream_is_accounted_for(first_run: CompletedProcess[str]) -> None:
    assert first_run.returncode == 0, first_run.stdout + first_run.stderr
    assert last_line(first_run.stdout) == "orders: 40 sent, 40 accounted for, 0 missing"
    assert "Traceback" not in first_run.stderr


def test_a_file_of_orders_is_accounted_for_in_the_sandbox_that_runs(up: Up, tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(DISORDER)
    replayed = orderflow("replay", str(file), "--state", str(up.state))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert last_line(replayed.stdout) == "orders: 7 sent, 7 accounted for, 0 missing"
    assert "forbidden_transition 1" in replayed.stdout


def test_a_second_run_goes_on_with_the_orders_of_the_first(up: Up) -> None:
    with psycopg.connect(up.address.database) as connection:
        assert connection.execute("SELECT FROM orders WHERE order_id LIKE 'demo-%'").rowcount > 0


def test_the_status_is_json(up: Up) -> None:
    printed = orderflow("status", "--state", str(up.state))
    assert {each["name"] for each in json.loads(printed.stdout)} == set(up.services())


def test_an_order_over_http_is_found_on_the_api_with_its_mail_sent(up: Up) -> None:
    answer = httpx.post(f"{up.address.intake}/orders", json=order(), headers={"Idempotency-Key": "http-1"})
    assert answer.status_code == 202
    order_id = answer.json()["order_id"]
    assert answer.headers["location"] == f"{up.address.query}/orders/{order_id}"
    accepted = until(lambda: up.order(order_id))
    assert accepted["status"] == "accepted"
    notifications = until(
        lambda: [each for each in (up.order(order_id) or {})["notifications"] if each["state"] == "sent"]
    )
    assert {each["channel"] for each in notifications} <= {"email", "webhook"}


def test_services_scale_to_zero_and_wake_up_on_traffic(up: Up) -> None:
    until(lambda: not up.services()["track"]["revisions"][-1]["instances"])
    headers = {"Idempotency-Key": "wake-1"}
    order_id = httpx.post(f"{up.address.intake}/orders", json=order(), headers=headers, timeout=30).json()[
        "order_id"
    ]
    assert until(lambda: up.order(order_id))["status"] == "accepted"


def test_traffic_weights_between_two_revisions_are_honoured(up: Up, tmp_path: Path) -> None:
    manifest = yaml.safe_load((ROOT / "knative/base/validate.yaml").read_text())
    manifest["spec"]["template"]["spec"]["containers"][0]["env"].append(
        {"name": "LOG_LEVEL", "value": "ERROR"}
    )
    file = tmp_path / "validate.yaml"
    file.write_text(yaml.safe_dump(manifest))
    applied = orderflow("apply", str(file), "--state", str(up.state))
    assert applied.returncode == 0, applied.stderr
    until(lambda: up.services()["validate"]["revisions"][-1]["ready"])
    shares = ("validate-00001=50", "validate-00002=50")
    assert orderflow("traffic", "validate", *shares, "--state", str(up.state)).returncode == 0
    before = {each["name"]: each["requests"] for each in up.services()["validate"]["revisions"]}
    _publish(up, [placed(f"split-{number}") for number in range(200)])
    until(lambda: up.order("split-199"))

    def counts() -> list[int]:
        return [each["requests"] - before[each["name"]] for each in up.services()["validate"]["revisions"]]

    until(lambda: sum(counts()) >= 200)
    # 50 % of 200: six standard deviations are 42.
    assert all(58 <= count <= 142 for count in counts()), counts()


def test_a_killed_function_loses_nothing_and_doubles_nothing(up: Up) -> None:
    names = [f"killed-{number}" for number in range(100)]
    _publish(up, [placed(name) for name in names[:50]])
    for instance in until(lambda: up.services()["track"]["revisions"][-1]["instances"]):
        psutil.Process(instance["pid"]).kill()
    _publish(up, [placed(name) for name in names[50:]])
    for name in names:
        killed_order = until(lambda name=name: up.order(name))
        assert [each["kind"] for each in killed_order["history"]] == ["accepted"]


def test_poison_is_parked_and_the_orders_behind_it_in_the_partition_go_on(up: Up) -> None:
    good = placed("behind-poison")
    headers_without_id = {name: value for name, value in good.kafka_headers() if name != "ce_id"}
    poison = {
        "not json at all": (b"{", {}),
        "not utf-8": (b"\xff\x00", {"content-type": "application/json"}),
        "deep json": (b"[" * 20_000, headers_without_id | {"ce_id": "deep"}),
        "a tombstone": (None, headers_without_id | {"ce_id": "tombstone"}),
        "an unknown type": (
            b"{}",
            headers_without_id | {"ce_id": "type", "ce_type": "dev.orderflow.order.eaten.v1"},
        ),
        "a type of ours that nobody may send": (
            b"{}",
            headers_without_id | {"ce_id": "v", "ce_type": "dev.orderflow.order.accepted.v1"},
        ),
        "a missing id": (good.data, headers_without_id),
        "an id beyond ascii": (good.data, headers_without_id | {"ce_id": "\u00e9t\u00e9"}),
        "an overflowing amount": (
            good.data.replace(b"2900", b"9" * 40),
            headers_without_id | {"ce_id": "big"},
        ),
        "a large body": (b'"' + b"x" * 900_000 + b'"', headers_without_id | {"ce_id": "large"}),
        "an escaped nul": (
            good.data.replace(b"Blue mug", b"Blue\\u0000mug"),
            headers_without_id | {"ce_id": "nul"},
        ),
    }
    producer = Producer({"bootstrap.servers": up.address.kafka, "enable.idempotence": True})
    for body, headers in poison.values():
        producer.produce(topics.INBOX, body, b"behind-poison", headers=list(headers.items()), partition=3)
    producer.produce(topics.INBOX, good.data, b"behind-poison", headers=good.kafka_headers(), partition=3)
    assert producer.flush(30) == 0
    assert until(lambda: up.order("behind-poison"))["status"] == "accepted"

    def parked() -> list[dict[str, object]]:
        answer = httpx.get(
            f"{up.address.query}/api/parked", params={"order": "behind-poison"}, timeout=30
        ).json()
        return list(answer["parked"]) if len(answer["parked"]) == len(poison) else []

    assert all(each["code"] for each in until(parked))
    logs = "".join(file.read_text() for file in (up.state / "logs").glob("*.log"))
    assert "ada@example.org" not in logs
    assert "Traceback" not in logs


def test_wrong_use_is_answered_in_one_sentence(up: Up, tmp_path: Path) -> None:
    port = str(three_free_ports())
    tries = {
        ("up", "--state", str(up.state), "--port", port): "a sandbox runs already",
        ("up", "--state", str(tmp_path / "other"), "--port", str(up.port)): f"port {up.port} is taken",
        ("replay", str(tmp_path / "none.csv")): "cannot be read",
        ("replay", str(ROOT / "Makefile")): "the first line must name the columns",
        ("traffic", "track", "track-00001=60", "--state", str(up.state)): "100",
        ("traffic", "track", "nonsense", "--state", str(up.state)): "REVISION=PERCENT",
        ("apply", str(ROOT / "Makefile"), "--state", str(up.state)): "Makefile",
        ("status", "--state", str(tmp_path / "none")): "no sandbox runs on",
        ("demo", "--orders", "0"): "--orders",
    }
    for arguments, sentence in tries.items():
        done = orderflow_in_process(*arguments)
        assert done.exit_code in {1, 2}, arguments
        assert isinstance(done.exception, SystemExit), arguments
        assert sentence in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr


def test_a_payment_before_its_order_waits_across_a_restart(up: Up) -> None:
    _publish(up, [replace(paid("patient"), source="/payments/acme")])
    assert until(lambda: up.order("patient"))["status"] == "awaited"
    assert up.stop(signal.SIGTERM) == 0
    assert left_behind(up.state) == []
    up.start()
    _publish(up, [placed("patient")])
    until(lambda: (up.order("patient") or {}).get("payment") == "paid")


def _publish(up: Up, events: list[CloudEvent]) -> None:
    producer = Producer({"bootstrap.servers": up.address.kafka, "enable.idempotence": True})
    for event in events:
        producer.produce(topics.INBOX, event.data, event.key, headers=event.kafka_headers())
    assert producer.flush(30) == 0
