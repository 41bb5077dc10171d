"""The Kafka users of kafka/ on a real broker with TLS: each user may do what its stage needs, and nothing else."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient
from support.events import event, order, paid, placed
from support.flow import Flow, flow
from support.secured import Secured, secured_kafka
from support.stage import Stage
from support.strimzi import ROOT, Rule, rules
from support.waiting import until

from orderflow.adapters.kafka.log import Log, partition_of
from orderflow.adapters.kafka.producer import KafkaPublisher, client_config
from orderflow.adapters.kafka.topic_ids import KafkaTopicIds
from orderflow.errors import TransientError
from orderflow.messaging import topics

GROUPS = ("orderflow-validate", "orderflow-track", "orderflow-notify", "orderflow-shelve")
DEADLINE_SECONDS = 20


@dataclass(frozen=True)
class Duties:
    """What a user does in Kafka. writes, reads and identifies (whose ids it asks for) are topics; watches are the
    groups whose committed offsets it reads; joins is the group that it is a member of."""

    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    identifies: tuple[str, ...] = ()
    joins: str = ""


DUTIES = {
    "intake": Duties(writes=(topics.INBOX,)),
    "validate": Duties(writes=(topics.EVENTS, topics.PARKED), identifies=(topics.INBOX,)),
    "track": Duties(writes=(topics.STATUS, topics.PARKED), identifies=(topics.EVENTS,)),
    "notify": Duties(writes=(topics.PARKED,), identifies=(topics.STATUS,)),
    "park": Duties(writes=(topics.PARKED,), identifies=(topics.INBOX, topics.EVENTS, topics.STATUS)),
    "shelve": Duties(writes=topics.ALL),
    "query": Duties(
        writes=(topics.INBOX, topics.PARKED),
        reads=topics.ALL,
        identifies=(topics.INBOX,),
    ),
    "audit": Duties(writes=topics.ALL, reads=topics.ALL, watches=GROUPS),
    "source-validate": Duties(reads=(topics.INBOX,), joins="orderflow-validate"),
    "source-track": Duties(reads=(topics.EVENTS,), joins="orderflow-track"),
    "source-notify": Duties(reads=(topics.STATUS,), joins="orderflow-notify"),
    "source-shelve": Duties(reads=(topics.PARKED,), joins="orderflow-shelve"),
    "storefront": Duties(writes=(topics.INBOX,)),
    "payment": Duties(writes=(topics.INBOX,)),
    "warehouse": Duties(writes=(topics.INBOX,)),
}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_kafka(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


def write(kafka: Secured, user: str, *to_topics: str, order_id: str = "o-1") -> None:
    """Publishes as the stages do: idempotent, acks=all."""

    async def publish() -> None:
        publisher = KafkaPublisher(kafka.settings(user))
        attempts = [publisher.publish(topic, [placed(order_id)]) for topic in to_topics]
        errors = await asyncio.gather(*attempts, return_exceptions=True)
        publisher.close()
        for error in filter(None, errors):
            raise error

    asyncio.run(publish())


def read(kafka: Secured, user: str, topic: str) -> None:
    """Reads as the audit does."""
    log = Log(client_config(kafka.settings(user)))
    ranges = {partition: (each.start, each.end) for partition, each in log.offset_ranges(topic).items()}
    assert [message for batch in log.read(topic, ranges) for message in batch]


def watch(kafka: Secured, user: str, group: str) -> None:
    """Reads a group's offsets as the audit does. describe_consumer_groups comes first because it fails at once, while
    librdkafka is silent for 30 s where the audit's own request is refused."""
    admin = AdminClient(client_config(kafka.settings(user)))
    try:
        admin.describe_consumer_groups([group])[group].result(DEADLINE_SECONDS)
    except KafkaException as error:
        if error.args[0].name() != "GROUP_ID_NOT_FOUND":
            raise
    read_offsets(kafka, user, group)


def read_offsets(kafka: Secured, user: str, group: str) -> None:
    topic = topics.ALL[GROUPS.index(group)]
    Log(client_config(kafka.settings(user))).committed(group, topic, range(4))


def join(kafka: Secured, user: str, topic: str, group: str) -> None:
    """Reads as a KafkaSource does: as a member of the group, with a commit."""
    consumer_config = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(client_config(kafka.settings(user)) | consumer_config)
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        consumer.subscribe([topic])
        while (message := consumer.poll(0.2)) is None:
            assert time.monotonic() < deadline, "no record came"
        if message.error() is not None:
            raise KafkaException(message.error())
        consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()


def identify(kafka: Secured, user: str, topic: str) -> None:
    """Asks for the topic's id as a stage does."""
    if not asyncio.run(KafkaTopicIds(kafka.settings(user), [topic]).id_of(topic)):
        raise TransientError("TOPIC_AUTHORIZATION_FAILED")


def do_all(kafka: Secured, user: str) -> None:
    duties = DUTIES[user]
    if duties.writes:
        write(kafka, user, *duties.writes)
    for topic in duties.reads:
        if duties.joins:
            join(kafka, user, topic, duties.joins)
        else:
            read(kafka, user, topic)
    for group in duties.watches:
        watch(kafka, user, group)
    for topic in duties.identifies:
        identify(kafka, user, topic)


def refuses(action: Callable[[], None]) -> bool:
    """Whether Kafka denies the action to the user. Any other error is raised."""
    try:
        action()
    except (TransientError, KafkaException) as error:
        # A user without any right to write gets no producer ID, and librdkafka purges its queued records.
        if any(code in str(error) for code in ("AUTHORIZATION_FAILED", "_PURGE_QUEUE")):
            return True
        raise
    return False


@pytest.fixture(scope="module", autouse=True)
def _something_to_read(kafka: Secured) -> None:
    write(kafka, "audit", *topics.ALL)
    until(lambda: all(answers(kafka, group) for group in GROUPS))


def answers(kafka: Secured, group: str) -> bool:
    """False at first, because a broker that has just started creates its offsets topic at the first request."""
    with contextlib.suppress(TransientError):
        read_offsets(kafka, "audit", group)
        return True
    return False


def test_every_user_of_the_manifests_has_duties() -> None:
    assert {rule.user for rule in rules()} == set(DUTIES)


@pytest.mark.parametrize("user", DUTIES)
def test_each_user_can_do_all_that_it_must(kafka: Secured, user: str) -> None:
    do_all(kafka, user)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: f"{rule.user}, {rule.operation} {rule.name}")
def test_no_rule_can_be_left_out(kafka: Secured, rule: Rule) -> None:
    with kafka.without(rule):
        assert refuses(lambda: do_all(kafka, rule.user))


@pytest.mark.parametrize("user", DUTIES)
def test_no_user_can_write_or_read_what_is_not_its_own(kafka: Secured, user: str) -> None:
    duties = DUTIES[user]
    for topic in topics.ALL:
        if topic not in duties.writes:
            assert refuses(lambda topic=topic: write(kafka, user, topic)), f"{user} can write {topic}"  # type: ignore[misc]
        if topic not in duties.reads:
            assert refuses(lambda topic=topic: read(kafka, user, topic)), f"{user} can read {topic}"  # type: ignore[misc]
    for group in GROUPS:
        if group not in {*duties.watches, duties.joins}:
            assert refuses(lambda group=group: watch(kafka, user, group)), f"{user} can watch {group}"  # type: ignore[misc]


def test_a_reading_that_lasts_does_not_fail_over_a_group_that_it_takes_no_part_in(
    kafka: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka looks for the coordinator of the reader's group of its own accord, and is refused while records still
    come."""
    monkeypatch.setattr("orderflow.adapters.kafka.log.BATCH", 1)
    config = client_config(kafka.settings("audit"))
    partitions = len(Log(config).offset_ranges(topics.INBOX))
    orders = (f"o-{number}" for number in itertools.count())
    order_id = next(each for each in orders if partition_of(each.encode(), partitions) == 0)
    for _ in range(3):
        write(kafka, "audit", topics.INBOX, order_id=order_id)
    log = Log(config | {"fetch.message.max.bytes": 1})
    extent = log.offset_ranges(topics.INBOX)[0]
    count = 0
    for batch in log.read(topics.INBOX, {0: (extent.start, extent.end)}):
        count += len(batch)
        time.sleep(2)
    assert count == extent.end - extent.start


NOTIFICATIONS = """
[shop]
name = "Shop"
url = "https://shop.example"
[email]
from = "orders@shop.example"
smtp_url = "smtp://127.0.0.1:1"
"""


@pytest.fixture
def shop(kafka: Secured, fresh_database: str, tmp_path: Path) -> Iterator[Flow]:
    with flow(kafka.inside, fresh_database, tmp_path, kafka.environment) as opened:
        yield opened


@pytest.fixture
def alone(kafka: Secured, shop: Flow, tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    """Starts a stage that the flow does not have, with its own Kafka user."""
    (tmp_path / "notifications.toml").write_text(NOTIFICATIONS)
    environment = {"DATABASE_URL": shop.database, "NOTIFICATIONS_FILE": str(tmp_path / "notifications.toml")}
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(
            Stage(name, tmp_path / f"{name}.log", **environment | kafka.environment(name))
        )


def test_an_order_its_poison_and_its_operators_get_through_with_each_stage_as_its_own_user(
    shop: Flow,
) -> None:
    order_id = shop.prefix + "a"
    shop.send(placed(order_id), paid(order_id, amount=1), event("placed", order_id, order(total="no number")))
    shop.until(lambda: len(shop.parked(order_id)) == 2)
    by_stage = {parked["stage"]: parked["id"] for parked in shop.parked(order_id)}
    assert set(by_stage) == {"validate", "track"}
    hold = shop.act(f"/api/orders/{order_id}/hold", {"reason": "looks odd"})
    replay = shop.act(f"/api/parked/{by_stage['track']}/replay")
    edit = shop.act(f"/api/parked/{by_stage['validate']}/edit", {"set": {"data.total": 2900}})
    shop.settle()
    assert [result["event_outcome"] for result in shop.results(hold)] == ["applied"]
    outcomes = [result["outcome"] for answer in (replay, edit) for result in shop.results(answer)]
    assert outcomes == ["done", "done"]
    poison = replace(paid(order_id), data=b"{")
    for stage in ("track", "shelve"):
        assert shop.stages[stage].binary(poison).status_code == 204


def test_what_the_flow_lacks_gets_through_too(shop: Flow, alone: Callable[[str], Stage]) -> None:
    order_id = shop.prefix + "b"
    sent = alone("intake").http.post("/orders", json=order(), headers={"Idempotency-Key": order_id})
    assert sent.status_code == 202
    poison = replace(paid(order_id), data=b"{")
    for stage in ("notify", "park"):
        assert alone(stage).binary(poison).status_code == 204


def test_the_audit_gets_through(kafka: Secured, shop: Flow, tmp_path: Path) -> None:
    """No group has read the topics to their end, so the audit judges no record, but it makes all of its requests."""
    (tmp_path / "notifications.toml").write_text(NOTIFICATIONS)
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": shop.database,
        "NOTIFICATIONS_FILE": str(tmp_path / "notifications.toml"),
        "AUDIT_SETTLE_SECONDS": "0",
    }
    command = [sys.executable, "-m", "functions.audit", "--json"]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | kafka.environment("audit"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in {0, 1}, run.stderr
    assert set(json.loads(run.stdout)["topics"]) == set(topics.ALL)
