"""Adding partitions while events lie in the old ones: what it does to an order's sequence, and how it keeps it."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewPartitions
from support.events import event
from support.waiting import DEADLINE_SECONDS, until

from orderflow import envelope, topics
from orderflow.adapters.log import partition_of
from orderflow.envelope import Envelope
from orderflow.errors import UnavailableError
from orderflow.holding import held
from orderflow.sandbox.sandbox import create_order_topics
from orderflow.sandbox.servers.kafka import EmbeddedKafka, admin_client

OLD, NEW = 2, 4
MOVES = next(f"o-{n}" for n in range(100) if partition_of(b"o-%d" % n, NEW) >= OLD)
STAYS = next(f"o-{n}" for n in range(100) if partition_of(b"o-%d" % n, NEW) < OLD)
FIRST, SECOND, OTHER = (
    event("held", MOVES, id="first"),
    event("released", MOVES, id="second"),
    event("held", STAYS, id="other"),
)
SOURCE = {
    "apiVersion": "sources.knative.dev/v1",
    "kind": "KafkaSource",
    "metadata": {"name": "validate"},
    "spec": {
        "bootstrapServers": ["elsewhere:9092"],
        "topics": [topics.INBOX],
        "consumerGroup": "orderflow-validate",
        "initialOffset": "earliest",
        "delivery": {
            "retry": 10_000,
            "backoffPolicy": "linear",
            "backoffDelay": "PT0.001S",
            "timeout": "PT5S",
        },
    },
}


@dataclass
class Stage:
    """What the source feeds. It refuses what ails says, for now, and what its hold says."""

    taken: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    ails: Callable[[str], bool] = lambda _: False
    hold: int | None = None

    async def post(self, request: web.Request) -> web.Response:
        found = envelope.from_http(
            [(name.lower(), value) for name, value in request.raw_headers], await request.read()
        )
        try:
            await held(self._take, self.hold)(found)
        except UnavailableError:
            self.refused[found.id] += 1
            return web.Response(status=503)
        return web.Response(status=204)

    async def _take(self, found: Envelope) -> str:
        if self.ails(found.id):
            raise UnavailableError("trouble")
        self.taken.append(found.id)
        return ""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of this module's own: the topics are called as in a cluster."""
    with EmbeddedKafka(tmp_path_factory.mktemp("repartitioned")) as kafka:
        yield kafka.bootstrap


@pytest.fixture
def bootstrap(broker: str) -> str:
    """With the topics as they were before, and empty."""
    admin = admin_client(broker)
    if known := sorted(set(admin.list_topics(timeout=20).topics) & set(topics.ALL)):
        for future in admin.delete_topics(known).values():
            future.result(20)
    until(lambda: not set(admin.list_topics(timeout=20).topics) & set(topics.ALL))
    create_order_topics(broker, OLD)
    return broker


def put(bootstrap: str, *events: Envelope, partition: int = -1) -> None:
    """By a producer that has asked for the number of partitions just now."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "partitioner": "murmur2_random"}
    )
    for each in events:
        producer.produce(topics.INBOX, each.data, each.key, headers=each.kafka_headers(), partition=partition)
        assert producer.flush(20) == 0


def add_partitions(bootstrap: str, *some: str) -> None:
    admin = admin_client(bootstrap)
    for future in admin.create_partitions([NewPartitions(topic, NEW) for topic in some]).values():
        future.result(20)
    known = lambda topic: len(admin.list_topics(topic, timeout=20).topics[topic].partitions)  # noqa: E731
    until(lambda: all(known(topic) == NEW for topic in some))


@asynccontextmanager
async def feeding(bootstrap: str, stage: Stage, folder: Path) -> AsyncIterator[None]:
    """The delivery process, which asks for new partitions all the time."""
    app = web.Application()
    app.router.add_post("/", stage.post)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    (folder / "sources").mkdir()
    manifest = SOURCE | {"spec": SOURCE["spec"] | {"sink": {"uri": address}}}  # type: ignore[operator]
    (folder / "sources/validate.yaml").write_text(yaml.safe_dump(manifest))
    (folder / "kafka.yaml").write_text(yaml.safe_dump({"topic.metadata.refresh.interval.ms": 200}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orderflow.sandbox.delivery"),
        *("--manifests", str(folder / "sources"), "--bootstrap", bootstrap),
        *("--kafka-config", str(folder / "kafka.yaml")),
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()
        await runner.cleanup()


class Asked:
    """`python -m orderflow.repartition`, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, bootstrap: str, *options: str) -> "Asked":
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "orderflow.repartition", "--from", str(OLD), *options),
                env=dict(os.environ) | {"KAFKA_BOOTSTRAP": bootstrap},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def says(self, words: str) -> None:
        """Waits for a line on its standard error that has these words."""
        assert self._process.stderr is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for line in self._process.stderr:
                if words in line.decode():
                    return
        raise AssertionError(f"it ended without saying {words}")

    async def ends(self) -> tuple[int, str]:
        """Its exit code and what it has said since, on either way."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            told, trouble = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, (told + trouble).decode()


async def until_so(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_partitions_that_are_simply_added_let_a_later_event_overtake_an_earlier_one(
    bootstrap: str, tmp_path: Path
) -> None:
    stage = Stage()
    stage.ails = lambda event_id: event_id == "first" and "second" not in stage.taken
    put(bootstrap, FIRST)
    async with feeding(bootstrap, stage, tmp_path):
        await until_so(lambda: stage.refused["first"] > 0)
        add_partitions(bootstrap, *topics.ALL)
        put(bootstrap, SECOND)
        await until_so(lambda: len(stage.taken) == 2)
    assert stage.taken == ["second", "first"]


async def test_held_back_until_the_old_ones_are_empty_they_keep_every_orders_sequence(
    bootstrap: str, tmp_path: Path
) -> None:
    ill = {"first"}
    stage = Stage(ails=lambda event_id: event_id in ill, hold=OLD)
    put(bootstrap, FIRST)
    async with feeding(bootstrap, stage, tmp_path):
        await until_so(lambda: stage.refused["first"] > 0)
        add_partitions(bootstrap, *topics.ALL)
        put(bootstrap, SECOND, OTHER)
        asked = await Asked.start(bootstrap, "--wait", "1")
        await asked.says("in old partitions: validate")
        await until_so(lambda: stage.refused["second"] > 0)
        assert "second" not in stage.taken
        ill.clear()
        assert await asked.ends() == (0, "the new partitions can be let in\n")
        assert "second" not in stage.taken
        assert set(stage.taken) == {"first", "other"}
        stage.hold = None
        await until_so(lambda: len(stage.taken) == 3)
    assert stage.taken.index("first") < stage.taken.index("second")


async def test_orders_whose_key_stays_are_not_held_up(bootstrap: str, tmp_path: Path) -> None:
    stage = Stage(hold=OLD)
    async with feeding(bootstrap, stage, tmp_path):
        add_partitions(bootstrap, *topics.ALL)
        put(bootstrap, SECOND)
        await until_so(lambda: stage.refused["second"] > 0)
        put(bootstrap, OTHER)
        await until_so(lambda: "other" in stage.taken)
    assert stage.taken == ["other"]


async def test_a_producer_that_goes_by_the_old_number_is_found(bootstrap: str, tmp_path: Path) -> None:
    put(bootstrap, OTHER, FIRST)
    ill = {"first"}
    stage = Stage(ails=lambda event_id: event_id in ill, hold=OLD)
    async with feeding(bootstrap, stage, tmp_path):
        add_partitions(bootstrap, *topics.ALL)
        asked = await Asked.start(bootstrap, "--wait", "0")
        await asked.says("in old partitions: validate")
        put(bootstrap, SECOND, partition=partition_of(MOVES.encode(), OLD))
        ill.clear()
        code, told = await asked.ends()
    assert code == 1
    assert f"somebody still writes by {OLD} partitions: {topics.INBOX} partition" in told


@pytest.mark.parametrize(
    ("old", "grown", "told"),
    [
        ("2", [topics.INBOX], "not all topics have the same number"),
        ("3", topics.ALL, "4 partitions are no multiple of 3"),
        ("4", topics.ALL, "4 partitions are no multiple of 4"),
    ],
)
async def test_numbers_that_cannot_be_kept_apart_are_refused(
    bootstrap: str, old: str, grown: tuple[str, ...], told: str
) -> None:
    add_partitions(bootstrap, *grown)
    asked = await Asked.start(bootstrap, "--from", old)
    code, said = await asked.ends()
    assert (code, told in said) == (2, True)
