"""An intake and a park that answer 2xx for what they do not publish, found from one event by a real Prometheus and a
real Kafka. The stages are real processes; the test counts their answers as the queue-proxy does."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from support.events import order, placed
from support.prometheus import Prometheus
from support.queue_proxies import Pod
from support.stage import Stage, binary_headers
from support.waiting import until

from orderflow.domain.release_analysis import Invariant
from orderflow.errors import TransientError
from orderflow.messaging import topics
from orderflow.query.clients.published_answers import NAME, STAGES, PublishedAnswers, answered
from orderflow_sandbox.address import free_port
from orderflow_sandbox.sandbox import create_order_topics

FORGETFUL = """
import os
import functions_framework.aio as functions_framework
from functions.{stage} import endpoint

innermost = endpoint
while hasattr(innermost, "_endpoint"):
    innermost = innermost._endpoint
publish = innermost._publisher.publish

async def publish_some(topic, events):
    takenby = {{"takenby": os.environ["K_REVISION"]}}
    kept = [each.with_extensions(**takenby) for each in events if "forgotten" not in each.subject]
    if kept:
        await publish(topic, kept)

innermost._publisher.publish = publish_some

@functions_framework.http
async def {stage}(request):
    return await endpoint.handle(request)
"""
"""A stage that answers as always for an order whose id has `forgotten`, and publishes nothing."""


@dataclass
class Shop:
    """Two pods for each stage; the first ones are there."""

    stages: dict[str, Stage]
    pods: dict[str, tuple[Pod, Pod]]
    answers: PublishedAnswers
    prometheus: Prometheus
    bootstrap: str

    def answered(self, stage: str, since: datetime) -> float:
        return answered(self.prometheus.url, STAGES[stage], self.revision(stage), since)

    def until_answered(self, stage: str, number: int, since: datetime) -> None:
        until(lambda: self.answered(stage, since) == number)

    def broken(self, stage: str, since: datetime) -> int:
        (invariant,) = self.answers.invariants(stage, self.revision(stage), since)
        assert invariant.name == NAME
        return invariant.count

    def revision(self, stage: str) -> str:
        return self.pods[stage][0].revision

    def send(self, pod: Pod, order_id: str) -> None:
        """An order to intake, or the dead letter of one to park."""
        stage = self.stages[pod.revision.partition("-")[0]]
        if stage.name == "intake":
            answer = stage.http.post(
                "/orders", json=order(order_id=order_id), headers={"Idempotency-Key": order_id}
            )
        else:
            error = {"ce-knativeerrordest": "http://track.orderflow.svc", "ce-knativeerrorcode": "503"}
            event = placed(order_id)
            answer = stage.http.post("/", content=event.data, headers=binary_headers(event) | error)
        assert pod.count(answer).is_success


@pytest.fixture
def shop(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Shop]:
    create_order_topics(kafka_bootstrap, 4)
    with ExitStack() as stack:
        stages, pods = {}, {}
        for name in STAGES:
            revision = f"{name}-{uuid.uuid4().hex[:8]}"
            source = tmp_path / f"{name}.py"
            source.write_text(FORGETFUL.format(stage=name))
            environment = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "FUNCTION_SOURCE": str(source)}
            stages[name] = stack.enter_context(
                Stage(name, tmp_path / f"{name}.log", K_REVISION=revision, **environment)
            )
            pods[name] = (Pod(revision), Pod(revision))
            pods[name][0].start()
            for pod in pods[name]:
                stack.callback(pod.stop)
        targets = [pod.address for pair in pods.values() for pod in pair]
        scrapes = [{"job_name": "stages", "static_configs": [{"targets": targets}]}]
        prometheus = stack.enter_context(Prometheus(tmp_path, scrapes, {"groups": []}))
        answers = PublishedAnswers(prometheus.url, {"bootstrap.servers": kafka_bootstrap})
        yield Shop(stages, pods, answers, prometheus, kafka_bootstrap)


@pytest.mark.parametrize("stage", STAGES)
def test_all_that_a_good_stage_answered_is_in_the_topic_and_one_that_it_forgot_is_found(
    shop: Shop, stage: str
) -> None:
    since = datetime.now(UTC)
    first, second = shop.pods[stage]
    http: httpx.Client = shop.stages[stage].http
    for number in range(100):
        shop.send(first, f"good-{number}")
        shop.send(first, f"good-{number % 10}")
    for path in ("/livez", "/"):
        first.count(http.get(path))
    first.count(http.post("/orders/dry-run", json=order()))
    first.count(http.post("/orders", content=b"{"))
    second.start()
    for number in range(20):
        shop.send(second, f"good-{number}")
    published = 220 if stage == "intake" else 222  # park parks whatever it is sent
    shop.until_answered(stage, published, since)
    assert shop.broken(stage, since) == 0
    first.stop()
    shop.send(second, "good-300")
    shop.until_answered(stage, published + 1, since)
    assert shop.broken(stage, since) == 0
    shop.send(second, "forgotten-1")
    shop.until_answered(stage, published + 2, since)
    assert shop.broken(stage, since) == 1
    assert shop.broken(stage, since) == 1


def test_what_was_answered_before_the_release_got_its_share_does_not_count(shop: Shop) -> None:
    before = datetime.now(UTC)
    pod, _ = shop.pods["intake"]
    shop.send(pod, "forgotten-1")
    shop.until_answered("intake", 1, before)
    since = datetime.now(UTC)
    shop.send(pod, "good-1")
    shop.until_answered("intake", 1, since)
    assert shop.broken("intake", since) == 0
    assert shop.broken("intake", before) == 1


def test_a_queue_proxy_that_counts_from_0_again_gives_no_false_alarm(shop: Shop) -> None:
    since = datetime.now(UTC)
    pod, _ = shop.pods["intake"]
    for number in range(5):
        shop.send(pod, f"good-{number}")
    shop.until_answered("intake", 5, since)
    pod.restart()
    for number in range(7):
        shop.send(pod, f"again-{number}")
    shop.until_answered("intake", 7, since)
    assert shop.broken("intake", since) == 0


def test_another_revision_is_not_blamed(shop: Shop) -> None:
    since = datetime.now(UTC)
    pod, _ = shop.pods["intake"]
    shop.send(pod, "forgotten-1")
    shop.until_answered("intake", 1, since)
    assert shop.answers.invariants("intake", "intake-00001", since) == [Invariant(NAME, 0)]
    assert shop.answers.invariants("track", "track-00001", since) == []


def test_a_record_whose_header_cannot_be_read_hides_no_other_record(shop: Shop) -> None:
    since = datetime.now(UTC)
    pod, _ = shop.pods["intake"]
    shop.send(pod, "good-1")
    producer = Producer({"bootstrap.servers": shop.bootstrap})
    for number in range(4):
        producer.produce(topics.INBOX, b"{}", str(number), partition=number, headers=[(b"\xff\xfe", b"x")])
    assert producer.flush(20) == 0
    shop.send(pod, "good-2")
    shop.send(pod, "forgotten-1")
    shop.until_answered("intake", 3, since)
    assert shop.broken("intake", since) == 1


def test_without_prometheus_nothing_is_said_to_hold(kafka_bootstrap: str) -> None:
    answers = PublishedAnswers(f"http://127.0.0.1:{free_port()}", {"bootstrap.servers": kafka_bootstrap})
    with pytest.raises(TransientError, match="PROMETHEUS_URL"):
        answers.invariants("intake", "intake-00002", datetime.now(UTC))


def test_without_kafka_nothing_is_said_to_hold(shop: Shop) -> None:
    since = datetime.now(UTC)
    pod, _ = shop.pods["intake"]
    shop.send(pod, "good-1")
    shop.until_answered("intake", 1, since)
    nowhere = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "socket.timeout.ms": 2000}
    with pytest.raises(TransientError):
        PublishedAnswers(shop.prometheus.url, nowhere).invariants("intake", shop.revision("intake"), since)
