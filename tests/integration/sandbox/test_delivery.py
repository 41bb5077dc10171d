"""The delivery process between a real Kafka and a real HTTP sink, whose answers each test chooses."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from confluent_kafka import Consumer, Producer, TopicPartition

from orderflow_sandbox.servers.topics import create_topics

DEADLINE_SECONDS = 45.0
QUICK = {"retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT0.02S", "timeout": "PT5S"}


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["ce-id"]

    @property
    def partition(self) -> int:
        return int(self.headers["ce-knativekafkapartition"])

    @property
    def offset(self) -> int:
        return int(self.headers["ce-knativekafkaoffset"])


Answer = Callable[[Received], Awaitable[web.Response]]


async def accepted(_: Received) -> web.Response:
    return web.Response(status=202)


@dataclass
class Sink:
    """Two paths, /sink and /dead-letters. Every request is kept before it is answered."""

    url: str = ""
    sink: Answer = accepted
    dead_letters: Answer = accepted
    requests: list[Received] = field(default_factory=list)

    def at(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path]

    def ids(self, path: str = "/sink") -> list[str]:
        return [request.id for request in self.at(path)]

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.path, headers, await request.read())
        self.requests.append(received)
        return await (self.sink if received.path == "/sink" else self.dead_letters)(received)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    sink = Sink()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", sink.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sink.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield sink
    await runner.cleanup()


class Process:
    """One delivery process. Its log lines are read as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.raw = b""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.raw += line
            if line.startswith(b"{"):
                self.lines.append(json.loads(line))

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["message"] == message]

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), DEADLINE_SECONDS)
        await self._reader
        return code

    def assigned(self) -> set[str]:
        partitions: set[str] = set()
        for line in self.lines:
            if line["message"] == "partitions assigned":
                partitions |= set(line["partitions"])
            if line["message"] in {"partitions revoked", "partitions lost"}:
                partitions -= set(line["partitions"])
        return partitions

    async def stats(self) -> Any:
        address = self.logged("ready")[0]["stats"]
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(address).read())
        return json.loads(text)["track"]


@dataclass
class Source:
    """A KafkaSource with a topic and a group of its own."""

    bootstrap: str
    folder: Path
    topic: str
    group: str
    processes: list[Process] = field(default_factory=list)

    def produce(self, *records: dict[str, Any]) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        for each in records:
            producer.produce(self.topic, **each)
        assert producer.flush(DEADLINE_SECONDS) == 0

    def begin(self, *records: dict[str, Any]) -> Producer:
        """A transaction that is open."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(DEADLINE_SECONDS)
        producer.begin_transaction()
        for each in records:
            producer.produce(self.topic, **each)
        assert producer.flush(DEADLINE_SECONDS) == 0
        return producer

    def transaction(self, *records: dict[str, Any], commit: bool) -> None:
        producer = self.begin(*records)
        (producer.commit_transaction if commit else producer.abort_transaction)(DEADLINE_SECONDS)

    async def start(self, *options: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orderflow_sandbox.delivery"),
            *("--manifests", str(self.folder), "--bootstrap", self.bootstrap),
            *("--namespace", "orderflow", *options),
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        delivery = Process(process)
        self.processes.append(delivery)
        await until(lambda: bool(delivery.logged("ready")))
        return delivery

    def committed(self, partitions: int) -> list[int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        places = [TopicPartition(self.topic, number) for number in range(partitions)]
        offsets = [place.offset for place in consumer.committed(places, timeout=10)]
        consumer.close()
        return offsets


Make = Callable[..., Source]


@pytest.fixture
async def make(kafka_bootstrap: str, tmp_path: Path, sink: Sink) -> AsyncIterator[Make]:
    sources: list[Source] = []

    def make_source(*, partitions: int = 1, **spec: Any) -> Source:
        name = f"delivery-{uuid.uuid4().hex}"
        create_topics(kafka_bootstrap, [name], partitions=partitions)
        manifest = {
            "apiVersion": "sources.knative.dev/v1",
            "kind": "KafkaSource",
            "metadata": {"name": "track"},
            "spec": {
                "bootstrapServers": ["elsewhere:9092"],
                "topics": [name],
                "consumerGroup": name,
                "initialOffset": "earliest",
                "sink": {"uri": f"{sink.url}/sink"},
                "delivery": {**QUICK, "deadLetterSink": {"uri": f"{sink.url}/dead-letters"}},
                **spec,
            },
        }
        folder = tmp_path / name
        folder.mkdir()
        (folder / "track.yaml").write_text(yaml.safe_dump(manifest))
        sources.append(Source(kafka_bootstrap, folder, name, name))
        return sources[-1]

    yield make_source
    for source in sources:
        for process in source.processes:
            if process.process.returncode is None:
                process.process.kill()
                await process.process.wait()
            sys.stderr.write(process.raw.decode())


def event(number: int, *, partition: int = 0, **more: Any) -> dict[str, Any]:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(number),
        "ce_source": "/test",
        "ce_type": "test.event",
        "content-type": "application/json",
    }
    return {
        "value": b'{"n":%d}' % number,
        "key": b"order-%d" % partition,
        "partition": partition,
        "headers": list(headers.items()),
        **more,
    }


def once_each(answer: int) -> Answer:
    """Answers the first attempt of every event with `answer`."""
    attempted_ids: set[str] = set()

    async def decide(request: Received) -> web.Response:
        first = request.id not in attempted_ids
        attempted_ids.add(request.id)
        return web.Response(status=answer if first else 200)

    return decide


async def test_events_arrive_as_a_kafkasource_sends_them(make: Make, sink: Sink) -> None:
    source = make()
    source.produce(event(1))
    await source.start()
    await until(lambda: len(sink.requests) == 1)
    (request,) = sink.requests
    assert request.body == b'{"n":1}'
    assert request.headers["prefer"] == "reply"
    assert request.headers["kn-namespace"] == "orderflow"
    assert request.headers["ce-id"] == "1"
    assert (request.partition, request.offset) == (0, 0)


async def test_the_order_of_a_partition_is_kept_under_retries(make: Make, sink: Sink) -> None:
    source = make(partitions=3)
    source.produce(*(event(n, partition=n % 3) for n in range(60)))
    sink.sink = once_each(503)
    await source.start()
    await until(lambda: len(sink.requests) == 120)
    for partition in range(3):
        arrived = [request.offset for request in sink.requests if request.partition == partition]
        assert arrived == [offset for offset in range(20) for _ in range(2)]


async def test_one_event_of_a_partition_is_in_flight_at_a_time(make: Make, sink: Sink) -> None:
    source = make(partitions=2)
    source.produce(*(event(n, partition=n % 2) for n in range(40)))
    in_flight: dict[int, int] = {0: 0, 1: 0}
    peak = {0: 0, 1: 0}

    async def slow(request: Received) -> web.Response:
        in_flight[request.partition] += 1
        peak[request.partition] = max(peak[request.partition], in_flight[request.partition])
        await asyncio.sleep(0.005)
        in_flight[request.partition] -= 1
        return web.Response()

    sink.sink = slow
    await source.start()
    await until(lambda: len(sink.requests) == 40)
    assert peak == {0: 1, 1: 1}


async def test_a_blocked_partition_holds_no_other(make: Make, sink: Sink) -> None:
    source = make(partitions=2)
    source.produce(*(event(n, partition=n % 2) for n in range(40)))
    free = asyncio.Event()

    async def decide(request: Received) -> web.Response:
        if request.partition == 0:
            await free.wait()
        return web.Response()

    sink.sink = decide
    process = await source.start()
    await until(lambda: Counter(request.partition for request in sink.requests) >= Counter({0: 1, 1: 20}))
    figures = await process.stats()
    lags = {each["partition"]: each["undelivered"] for each in figures["partitions"]}
    assert lags == {0: 20, 1: 0}
    assert len([request for request in sink.requests if request.partition == 0]) == 1
    free.set()
    await until(lambda: len(sink.requests) == 40)


async def test_a_dead_letter_is_the_event_with_destination_code_and_data(make: Make, sink: Sink) -> None:
    source = make()
    source.produce(event(1), event(2))

    async def refuse(request: Received) -> web.Response:
        return web.Response(status=422, body=b"no such order", headers={"Kne-Reason": "unknown"})

    sink.sink = refuse
    await source.start()
    await until(lambda: len(sink.at("/dead-letters")) == 2)
    assert sink.ids() == ["1", "2"]
    request = sink.at("/dead-letters")[0]
    assert request.body == b'{"n":1}'
    assert request.headers["ce-knativeerrordest"] == f"{sink.url}/sink"
    assert request.headers["ce-knativeerrorcode"] == "422"
    assert base64.b64decode(request.headers["ce-knativeerrordata"]) == b"no such order"
    assert request.headers["ce-reason"] == "unknown"
    assert request.headers["content-type"] == "application/json"


async def test_a_retried_answer_is_tried_n_plus_1_times_then_dead_lettered(make: Make, sink: Sink) -> None:
    source = make()
    source.produce(event(1))

    async def busy(request: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    sink.sink = busy
    process = await source.start()
    await until(lambda: len(sink.at("/dead-letters")) == 1)
    assert sink.ids() == ["1", "1", "1"]
    figures = await process.stats()
    assert (figures["retried"], figures["dead_lettered"]) == (2, 1)


async def test_a_sink_that_says_nothing_is_timed_out_and_has_no_code(make: Make, sink: Sink) -> None:
    dead_letter_sink = {"deadLetterSink": {"uri": f"{sink.url}/dead-letters"}}
    source = make(delivery={"retry": 0, "timeout": "PT0.2S", **dead_letter_sink})
    source.produce(event(1))
    forever = asyncio.Event()

    async def silent(request: Received) -> web.Response:
        await forever.wait()
        return web.Response()

    sink.sink = silent
    await source.start()
    await until(lambda: len(sink.at("/dead-letters")) == 1)
    assert "ce-knativeerrorcode" not in sink.at("/dead-letters")[0].headers
    forever.set()


async def test_where_the_dead_letter_sink_fails_the_record_is_dropped_and_committed(
    make: Make, sink: Sink
) -> None:
    source = make()
    source.produce(event(1, key=b"jane@example.com"), event(2))

    async def refuse(request: Received) -> web.Response:
        return web.Response(status=400 if request.id == "1" else 200)

    async def down(_: Received) -> web.Response:
        return web.Response(status=500)

    sink.sink, sink.dead_letters = refuse, down
    process = await source.start()
    await until(lambda: sink.ids() == ["1", "2"])
    assert sink.ids("/dead-letters") == ["1", "1", "1"]
    await until(lambda: bool(process.logged("dropped and committed")))
    (line,) = process.logged("dropped and committed")
    assert (line["topic"], line["partition"], line["offset"]) == (source.topic, 0, 0)
    assert (await process.stats())["dropped"] == 1
    assert await process.end(signal.SIGTERM) == 0
    assert b"jane" not in process.raw
    assert source.committed(1) == [2]


async def test_without_a_dead_letter_sink_a_refused_record_is_dropped(make: Make, sink: Sink) -> None:
    source = make(delivery={"retry": 0})
    source.produce(event(1), event(2))

    async def refuse(request: Received) -> web.Response:
        return web.Response(status=500 if request.id == "1" else 200)

    sink.sink = refuse
    process = await source.start()
    await until(lambda: sink.ids() == ["1", "2"])
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(1) == [2]


async def test_a_nul_in_the_key_drops_a_record_that_is_wrapped_and_no_cloudevent(
    make: Make, sink: Sink
) -> None:
    """Measured against eventing-kafka-broker 0.50: only a wrapped record carries its key in the request."""
    source = make()
    plain = {"key": b"a\x00b", "value": b"x", "partition": 0}
    source.produce(plain, event(1, key=b"a\x00b"), event(2))
    process = await source.start()
    await until(lambda: sink.ids() == ["1", "2"])
    assert (await process.stats())["dropped"] == 1
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(1) == [3]


async def test_a_cloudevent_with_a_null_header_is_dropped_and_committed_without_a_dead_letter(
    make: Make, sink: Sink
) -> None:
    """Measured against eventing-kafka-broker 0.50: its tracing fails at the header."""
    source = make()
    (*headers,) = event(1)["headers"]
    source.produce(event(1, headers=[*headers, ("x-foo", None)]), event(2))
    process = await source.start()
    await until(lambda: sink.ids() == ["2"])
    assert sink.at("/dead-letters") == []
    assert (await process.stats())["dropped"] == 1
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(1) == [2]


async def test_an_aborted_transaction_is_not_delivered_and_its_gap_is_passed_with_the_next_record(
    make: Make, sink: Sink
) -> None:
    """Measured against eventing-kafka-broker 0.50: what is behind the last record stays uncommitted."""
    source = make()
    source.produce(event(0))
    source.transaction(event(1), event(2), commit=True)
    source.transaction(event(3), event(4), commit=False)
    process = await source.start()
    await until(lambda: sink.ids() == ["0", "1", "2"])
    # 0 is event 0, 1 and 2 are the committed ones, 3 is their marker, 4 and 5 are aborted, 6 is their marker.
    await until(lambda: source.committed(1) == [3])
    source.produce(event(5))
    await until(lambda: sink.ids() == ["0", "1", "2", "5"])
    assert sink.requests[-1].offset == 7
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(1) == [8]


async def test_a_transaction_that_is_open_holds_back_what_comes_behind_it(make: Make, sink: Sink) -> None:
    """read_committed ends at the last stable offset."""
    source = make()
    producer = source.begin(event(0))
    source.produce(event(1))
    await source.start()
    marker = make()
    marker.produce(event(2))
    await marker.start()
    await until(lambda: "2" in sink.ids())
    assert sink.ids() == ["2"]
    producer.commit_transaction(DEADLINE_SECONDS)
    await until(lambda: sorted(sink.ids()) == ["0", "1", "2"])


async def test_a_null_header_takes_the_plain_records_of_its_poll_with_it(make: Make, sink: Sink) -> None:
    source = make()
    plain: dict[str, Any] = {"value": b"x", "partition": 0}
    poison: dict[str, Any] = {**plain, "headers": [("note", None)]}
    source.produce(*[plain] * 10, poison, *[plain] * 9, event(20))
    process = await source.start()
    await until(lambda: sink.ids() == ["20"])
    assert (await process.stats())["dropped"] == 20
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(1) == [21]


async def test_an_illegal_kne_header_stops_the_partition_for_good(make: Make, sink: Sink) -> None:
    source = make(partitions=2)
    source.produce(*(event(n, partition=n % 2) for n in range(10)))

    async def decide(request: Received) -> web.Response:
        if request.partition == 0:
            return web.Response(status=400, headers={"Kne-My-Reason": "x"})
        return web.Response()

    sink.sink = decide
    process = await source.start()
    await until(lambda: len([request for request in sink.requests if request.partition == 1]) == 5)
    await until(lambda: len([request for request in sink.requests if request.partition == 0]) == 1)
    figures = await process.stats()
    stopped = {each["partition"]: each["stopped"] for each in figures["partitions"]}
    assert stopped == {0: True, 1: False}
    assert sink.at("/dead-letters") == []
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(2)[1] == 5
    sink.sink = accepted
    await source.start()
    await until(lambda: len([request for request in sink.requests if request.partition == 0]) == 6)


async def test_after_kill_9_everything_since_the_last_commit_comes_again(make: Make, sink: Sink) -> None:
    source = make()
    source.produce(*(event(n) for n in range(50)))
    process = await source.start()
    await until(lambda: len(sink.requests) >= 50)
    await process.end(signal.SIGKILL)
    assert source.committed(1)[0] < 50
    before = len(sink.requests)
    source.produce(event(50))
    await source.start()
    await until(lambda: "50" in sink.ids())
    assert set(sink.ids()) == {str(n) for n in range(51)}
    assert len(sink.requests) > before + 1


async def test_after_sigterm_nothing_is_lost_and_nothing_comes_twice(make: Make, sink: Sink) -> None:
    source = make(partitions=4)
    source.produce(*(event(n, partition=n % 4) for n in range(400)))

    async def ever_slower(_: Received) -> web.Response:
        await asyncio.sleep(0.5 if len(sink.requests) > 100 else 0)
        return web.Response()

    sink.sink = ever_slower
    process = await source.start()
    await until(lambda: len(sink.requests) >= 104)
    assert await process.end(signal.SIGTERM) == 0
    assert len(sink.requests) < 400
    assert sum(source.committed(4)) == len(sink.requests)
    sink.sink = accepted
    await source.start()
    await until(lambda: len(sink.requests) >= 400)
    assert sorted(sink.ids()) == sorted(str(n) for n in range(400))


async def test_offsets_are_committed_every_5_seconds(make: Make, sink: Sink) -> None:
    source = make()
    source.produce(*(event(n) for n in range(5)))
    process = await source.start()
    await until(lambda: len(sink.requests) == 5)
    await until(lambda: source.committed(1) == [5])
    figures = await process.stats()
    assert figures["last_commit"] is not None
    assert [each["lag"] for each in figures["partitions"]] == [0]


async def test_earliest_reads_what_was_there_before_and_latest_does_not(make: Make, sink: Sink) -> None:
    earliest, latest = make(), make(initialOffset="latest")
    for source in (earliest, latest):
        source.produce(event(1))
        process = await source.start()
        await until(lambda process=process: len(process.assigned()) == 1)  # type: ignore[misc]
    await until(lambda: sink.ids() == ["1"])
    # The end of a partition is looked up some time after its assignment: send until an event arrives.
    number = 100
    while len(sink.requests) == 1:
        number += 1
        latest.produce(event(number))
        await asyncio.sleep(0.1)
    assert sink.ids().count("1") == 1


async def test_a_second_process_joins_and_leaves_without_loss_or_disorder(make: Make, sink: Sink) -> None:
    source = make(partitions=6)
    total = 1200
    source.produce(*(event(n, partition=n % 6) for n in range(total)))

    async def slow(_: Received) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response()

    sink.sink = slow
    first = await source.start()
    await until(lambda: len(first.assigned()) == 6)
    second = await source.start()
    await until(lambda: len(second.assigned()) == 3 and len(first.assigned()) == 3)
    assert await first.end(signal.SIGTERM) == 0
    await until(lambda: len(second.assigned()) == 6)
    await until(lambda: len(set(sink.ids())) == total)
    for partition in range(6):
        offsets = [request.offset for request in sink.requests if request.partition == partition]
        firsts = list(dict.fromkeys(offsets))
        assert firsts == sorted(firsts)
    # What is in flight during a rebalance is delivered twice: at most one event per partition.
    assert len(sink.requests) - total <= 6


async def test_consumers_n_are_n_members_that_share_the_partitions(make: Make, sink: Sink) -> None:
    source = make(partitions=4, consumers=2)
    source.produce(*(event(n, partition=n % 4) for n in range(40)))
    process = await source.start()
    await until(lambda: len(sink.requests) == 40)
    await until(lambda: [len(line["partitions"]) for line in process.logged("partitions assigned")][-1] == 2)
    assert len(process.assigned()) == 4


async def test_unordered_delivery_flies_up_to_twice_a_poll_and_commits_without_gaps(
    make: Make, sink: Sink
) -> None:
    source = make(ordering="unordered")
    source.produce(*(event(n) for n in range(200)))
    free = asyncio.Event()

    async def hold(_: Received) -> web.Response:
        await free.wait()
        return web.Response()

    sink.sink = hold
    process = await source.start("--max-poll-records", "50")
    await until(lambda: len(sink.requests) >= 50)
    in_flight = (await process.stats())["in_flight"]
    assert 50 <= in_flight <= 99

    async def hold_the_first(request: Received) -> web.Response:
        if request.offset == 0:
            await asyncio.Event().wait()
        return web.Response()

    sink.sink = hold_the_first
    free.set()
    await until(lambda: len(sink.requests) >= 200)
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(1) == [200]


async def test_unordered_delivery_never_commits_past_one_that_is_open(make: Make, sink: Sink) -> None:
    source = make(ordering="unordered", delivery={"retry": 0, "timeout": "PT60S"})
    source.produce(*(event(n) for n in range(100)))
    never = asyncio.Event()

    async def hold_one(request: Received) -> web.Response:
        if request.offset == 40:
            await never.wait()
        return web.Response()

    sink.sink = hold_one
    process = await source.start("--grace-seconds", "0.5")
    await until(lambda: len(sink.requests) == 100)
    assert await process.end(signal.SIGTERM) == 0
    assert source.committed(1) == [40]
    never.set()


async def test_a_see_other_is_followed(make: Make, sink: Sink) -> None:
    source = make()
    source.produce(event(1))

    async def elsewhere(_: Received) -> web.Response:
        return web.Response(status=303, headers={"Location": "/other"})

    sink.sink = elsewhere
    process = await source.start()
    await until(lambda: len(sink.at("/other")) == 1)
    await until(lambda: process.logged("ready") != [])
    assert sink.at("/dead-letters") == []
    assert (await process.stats())["delivered"] == 1


async def test_bad_manifests_end_the_process_with_a_message(make: Make) -> None:
    source = make()
    (source.folder / "track.yaml").write_text("kind: KafkaSource\nspec: {topic: x}\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orderflow_sandbox.delivery", "--manifests", str(source.folder)),
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    _, complaint = await process.communicate()
    assert process.returncode == 2
    assert b"track.yaml: spec.topic: " in complaint
