"""Partitions are added while the old ones still have events: how an order's sequence breaks, and how it is kept."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import yaml
from aiohttp import web
from confluent_kafka import Message, Producer
from confluent_kafka.cimpl import NewPartitions
from support import stage as processes
from support.events import event, paid, placed
from support.waiting import DEADLINE_SECONDS, until

from orderflow.adapters.kafka.log import partition_of
from orderflow.adapters.kafka.topic_ids import topic_ids
from orderflow.adapters.postgres.schema import migrate
from orderflow.errors import TransientError
from orderflow.messaging import cloudevent, topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.messaging.partition_hold import hold_back
from orderflow.messaging.places import Place
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.topics import admin_client

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
    """The sink of the source. It answers 503 to events for which fails() is true, and to held partitions."""

    handled: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    fails: Callable[[str], bool] = lambda _: False
    hold: int | None = None

    async def post(self, request: web.Request) -> web.Response:
        received = cloudevent.from_http(
            [(name.lower(), value) for name, value in request.raw_headers], await request.read()
        )
        try:
            await hold_back(self._handle, self.hold)(received)
        except TransientError:
            self.refused[received.id] += 1
            return web.Response(status=503)
        return web.Response(status=204)

    async def _handle(self, received: CloudEvent) -> str:
        if self.fails(received.id):
            raise TransientError("trouble")
        self.handled.append(received.id)
        return ""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker for this module only, because its topics have the same names as in a cluster."""
    with EmbeddedKafka(tmp_path_factory.mktemp("repartitioned")) as kafka:
        yield kafka.bootstrap


@pytest.fixture
def bootstrap(broker: str) -> str:
    """The broker with empty topics that have the old number of partitions."""
    admin = admin_client(broker)
    if existing := sorted(set(admin.list_topics(timeout=20).topics) & set(topics.ALL)):
        for future in admin.delete_topics(existing).values():
            future.result(20)
    until(lambda: not set(admin.list_topics(timeout=20).topics) & set(topics.ALL))
    create_order_topics(broker, OLD)
    return broker


def put(bootstrap: str, *events: CloudEvent, partition: int = -1) -> None:
    """Uses a new producer, which knows the current number of partitions."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "partitioner": "murmur2_random"}
    )
    for each in events:
        producer.produce(topics.INBOX, each.data, each.key, headers=each.kafka_headers(), partition=partition)
        assert producer.flush(20) == 0


def add_partitions(bootstrap: str, *names: str) -> None:
    admin = admin_client(bootstrap)
    for future in admin.create_partitions([NewPartitions(topic, NEW) for topic in names]).values():
        future.result(20)
    count = lambda topic: len(admin.list_topics(topic, timeout=20).topics[topic].partitions)  # noqa: E731
    until(lambda: all(count(topic) == NEW for topic in names))


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Yields the server's address."""
    app = web.Application()
    app.router.add_post("/{any:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


@asynccontextmanager
async def delivering(bootstrap: str, folder: Path, manifests: Path, *options: str) -> AsyncIterator[None]:
    """The delivery process, which looks for new partitions every 200 ms."""
    (folder / "kafka.yaml").write_text(yaml.safe_dump({"topic.metadata.refresh.interval.ms": 200}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orderflow_sandbox.delivery"),
        *("--manifests", str(manifests), "--bootstrap", bootstrap),
        *("--kafka-config", str(folder / "kafka.yaml"), *options),
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def feeding(bootstrap: str, stage: Stage, folder: Path) -> AsyncIterator[None]:
    async with serving(stage.post) as address:
        (folder / "sources").mkdir()
        manifest = SOURCE | {"spec": SOURCE["spec"] | {"sink": {"uri": address}}}  # type: ignore[operator]
        (folder / "sources/validate.yaml").write_text(yaml.safe_dump(manifest))
        async with delivering(bootstrap, folder, folder / "sources"):
            yield


class Repartition:
    """A running `python -m orderflow.commands.repartition`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, bootstrap: str, *options: str) -> "Repartition":
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "orderflow.commands.repartition", "--from", str(OLD), *options),
                env=dict(os.environ) | {"KAFKA_BOOTSTRAP": bootstrap},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def prints(self, text: str) -> None:
        """Waits for a line on stderr that has this text."""
        assert self._process.stderr is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for line in self._process.stderr:
                if text in line.decode():
                    return
        raise AssertionError(f"it ended without {text!r} on stderr")

    async def ends(self) -> tuple[int, str]:
        """The exit code, and its output: stdout where the code is 0, else the rest of stderr."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            stdout, stderr = await self._process.communicate()
        code = self._process.returncode
        assert code is not None
        return code, (stdout if code == 0 else stderr).decode()


async def until_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_partitions_that_are_simply_added_let_a_later_event_overtake_an_earlier_one(
    bootstrap: str, tmp_path: Path
) -> None:
    stage = Stage()
    stage.fails = lambda event_id: event_id == "first" and "second" not in stage.handled
    put(bootstrap, FIRST)
    async with feeding(bootstrap, stage, tmp_path):
        await until_true(lambda: stage.refused["first"] > 0)
        add_partitions(bootstrap, *topics.ALL)
        put(bootstrap, SECOND)
        await until_true(lambda: len(stage.handled) == 2)
    assert stage.handled == ["second", "first"]


async def test_held_back_until_the_old_ones_are_empty_they_keep_every_orders_sequence(
    bootstrap: str, tmp_path: Path
) -> None:
    failing = {"first"}
    stage = Stage(fails=lambda event_id: event_id in failing, hold=OLD)
    put(bootstrap, FIRST)
    async with feeding(bootstrap, stage, tmp_path):
        await until_true(lambda: stage.refused["first"] > 0)
        add_partitions(bootstrap, *topics.ALL)
        put(bootstrap, SECOND, OTHER)
        command = await Repartition.start(bootstrap, "--wait", "1")
        await command.prints("in old partitions: validate")
        await until_true(lambda: stage.refused["second"] > 0)
        assert "second" not in stage.handled
        failing.clear()
        assert await command.ends() == (0, "the new partitions can be let in\n")
        assert "second" not in stage.handled
        assert set(stage.handled) == {"first", "other"}
        stage.hold = None
        await until_true(lambda: len(stage.handled) == 3)
    assert stage.handled.index("first") < stage.handled.index("second")


async def test_orders_whose_key_stays_are_not_held_up(bootstrap: str, tmp_path: Path) -> None:
    stage = Stage(hold=OLD)
    async with feeding(bootstrap, stage, tmp_path):
        add_partitions(bootstrap, *topics.ALL)
        put(bootstrap, SECOND)
        await until_true(lambda: stage.refused["second"] > 0)
        put(bootstrap, OTHER)
        await until_true(lambda: "other" in stage.handled)
    assert stage.handled == ["other"]


async def test_a_producer_that_goes_by_the_old_number_is_found(bootstrap: str, tmp_path: Path) -> None:
    put(bootstrap, OTHER, FIRST)
    failing = {"first"}
    stage = Stage(fails=lambda event_id: event_id in failing, hold=OLD)
    async with feeding(bootstrap, stage, tmp_path):
        add_partitions(bootstrap, *topics.ALL)
        command = await Repartition.start(bootstrap, "--wait", "0")
        await command.prints("in old partitions: validate")
        put(bootstrap, SECOND, partition=partition_of(MOVES.encode(), OLD))
        failing.clear()
        code, output = await command.ends()
    assert code == 1
    assert f"a producer still writes by {OLD} partitions: {topics.INBOX} partition" in output


@pytest.mark.parametrize(
    ("old", "grown_topics", "message"),
    [
        ("2", [topics.INBOX], "not all topics have the same number"),
        ("3", topics.ALL, "4 partitions are no multiple of 3"),
        ("4", topics.ALL, "4 partitions are no multiple of 4"),
    ],
)
async def test_numbers_that_cannot_be_kept_apart_are_refused(
    bootstrap: str, old: str, grown_topics: tuple[str, ...], message: str
) -> None:
    add_partitions(bootstrap, *grown_topics)
    command = await Repartition.start(bootstrap, "--from", old)
    code, output = await command.ends()
    assert (code, message in output) == (2, True)


LIFE = ("placed", "held", "released", "paid", "packed", "shipped", "delivered")
"""Events of which each is refused or waits where it comes too early."""
ORDERS = 12


class Shop:
    """The stages as processes. The delivery process feeds them from the same manifests as in a cluster."""

    def __init__(self, bootstrap: str, database: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.database = database
        self._folder = folder
        self._environment = {"KAFKA_BOOTSTRAP": bootstrap, "DATABASE_URL": database}
        (folder / "client.properties").write_text("topic.metadata.refresh.interval.ms=500\n")
        self._environment["KAFKA_CONFIG_FILE"] = str(folder / "client.properties")
        self._stages: dict[str, processes.Stage] = {}

    def start(self, **environment: str) -> None:
        """Starts or restarts the stages. A restarted stage keeps its address."""
        for name in ("validate", "track", "shelve"):
            stage = processes.Stage(name, self._folder / f"{name}.log", **self._environment | environment)
            if name in self._stages:
                stage.port = self._stages[name].port
                self._stages[name].stop(signal.SIGTERM)
            self._stages[name] = stage
            stage.__enter__()

    def stop(self) -> None:
        for stage in self._stages.values():
            stage.__exit__()

    @asynccontextmanager
    async def feeding(self, fake_sink: str) -> AsyncIterator[None]:
        """fake_sink is the address of the server that replaces notify and park."""
        sinks = {name: f"http://127.0.0.1:{stage.port}" for name, stage in self._stages.items()}
        sinks["notify"] = sinks["park"] = fake_sink
        options = [option for name, url in sinks.items() for option in ("--sink", f"{name}={url}")]
        async with delivering(self.bootstrap, self._folder, processes.ROOT / "kafka-source/base", *options):
            yield

    def histories(self) -> dict[str, list[str]]:
        with psycopg.connect(self.database) as connection:
            rows = connection.execute(
                "SELECT order_id, kind FROM history ORDER BY order_id, version"
            ).fetchall()
        kinds: dict[str, list[str]] = {}
        for order_id, kind in rows:
            kinds.setdefault(order_id, []).append(kind)
        return kinds

    def parked_codes(self) -> list[str]:
        with psycopg.connect(self.database) as connection:
            return [row[0] for row in connection.execute("SELECT code FROM parked").fetchall()]

    def outcomes(self) -> set[str]:
        with psycopg.connect(self.database) as connection:
            return {row[0] for row in connection.execute("SELECT DISTINCT outcome FROM ledger").fetchall()}


def event_of(kind: str, order_id: str) -> CloudEvent:
    if kind == "placed":
        return placed(order_id)
    return paid(order_id) if kind == "paid" else event(kind, order_id)


async def sell(bootstrap: str, kinds: tuple[str, ...]) -> None:
    """Publishes each order's events in sequence, each confirmed, by one producer that asks for the number of partitions
    every 500 ms."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "topic.metadata.refresh.interval.ms": 500,
        }
    )
    for kind in kinds:
        for number in range(ORDERS):
            each = event_of(kind, f"o-{number}")
            producer.produce(topics.INBOX, each.data, each.key, headers=each.kafka_headers())
            assert await asyncio.to_thread(producer.flush, 20) == 0


async def test_a_shop_that_sells_on_while_partitions_are_added_has_every_story_in_sequence(
    bootstrap: str, fresh_database: str, tmp_path: Path
) -> None:
    migrate(fresh_database)
    shop = Shop(bootstrap, fresh_database, tmp_path)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shop.stop)
        await asyncio.to_thread(shop.start, HOLD_FROM_PARTITION=str(OLD))
        await stack.enter_async_context(shop.feeding(await stack.enter_async_context(serving(accept))))
        selling = asyncio.create_task(sell(bootstrap, LIFE[:4]))
        await until_true(lambda: len(shop.histories()) > 2)
        await asyncio.to_thread(add_partitions, bootstrap, *topics.ALL)
        command = await Repartition.start(bootstrap, "--wait", "5")
        await selling
        assert await command.ends() == (0, "the new partitions can be let in\n")
        await asyncio.gather(asyncio.to_thread(shop.start), sell(bootstrap, LIFE[4:]))
        history = ["accepted", *LIFE[1:]]
        await until_true(lambda: shop.histories() == {f"o-{number}": history for number in range(ORDERS)})
    assert shop.outcomes() == {"applied"}


async def test_an_event_of_an_old_partition_that_was_dropped_is_overtaken_by_those_of_the_new_one(
    bootstrap: str, fresh_database: str, tmp_path: Path
) -> None:
    """The audit publishes the dropped event again, with the place of its record, and it comes in the new partition."""
    migrate(fresh_database)
    shop = Shop(bootstrap, fresh_database, tmp_path)
    held = event("held", MOVES)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shop.stop)
        await asyncio.to_thread(shop.start, HOLD_FROM_PARTITION=str(OLD))
        await stack.enter_async_context(shop.feeding(await stack.enter_async_context(serving(accept))))
        put(bootstrap, placed(MOVES))
        await until_true(lambda: shop.histories() == {MOVES: ["accepted"]})
        place = await asyncio.to_thread(put_in_vain, bootstrap, held)
        await asyncio.to_thread(add_partitions, bootstrap, *topics.ALL)
        command = await Repartition.start(bootstrap, "--wait", "1")
        assert await command.ends() == (0, "the new partitions can be let in\n")
        await asyncio.to_thread(shop.start)
        put(bootstrap, event("released", MOVES))
        await until_true(lambda: shop.outcomes() == {"applied", "refused"})
        put(bootstrap, held.with_extensions(firstplace=str(place)))
        await until_true(lambda: shop.parked_codes() == ["overtaken"])
    assert place.partition == partition_of(MOVES.encode(), OLD) < OLD
    assert shop.histories() == {MOVES: ["accepted"]}


def put_in_vain(bootstrap: str, dropped: CloudEvent) -> Place:
    """Publishes an event that KafkaSource drops, because a header has no value. Returns the place of its record."""
    records: list[Message] = []
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    headers = [*dropped.kafka_headers(), ("ce_nothing", None)]
    producer.produce(
        topics.INBOX,
        dropped.data,
        dropped.key,
        headers=headers,
        on_delivery=lambda _, record: records.append(record),
    )
    assert producer.flush(20) == 0
    topic_id = topic_ids(admin_client(bootstrap), [topics.INBOX], 20)[topics.INBOX]
    return Place(topic_id, records[0].partition() or 0, records[0].offset() or 0)


async def accept(_: web.Request) -> web.Response:
    return web.Response(status=204)
