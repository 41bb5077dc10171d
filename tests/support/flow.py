"""The stages from the inbox to the shelf and query, each a real process; the test's own hand is the delivery."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from confluent_kafka import Producer
from psycopg.rows import dict_row

from orderflow.adapters.postgres.schema import migrate
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.sandbox import create_order_topics
from orderflow_sandbox.servers.kafka import EmbeddedKafka
from orderflow_sandbox.servers.postgres import EmbeddedPostgres, create_database, drop_database
from support.console import NO_KEEPALIVE, console
from support.stage import Stage
from support.topics import Tap

STAGE_OF = {topics.INBOX: "validate", topics.EVENTS: "track", topics.PARKED: "shelve"}
NOTIFIED = {topics.STATUS: "notify"}
"""More of it, where the flow has notify."""
DEADLINE_SECONDS = 30
PAUSE_SECONDS = 0.05


@dataclass
class Flow:
    """One shop. Order ids begin with its own prefix, since the broker is everyone's."""

    stages: dict[str, Stage]
    tap: Tap
    query: httpx.Client
    database: str
    logs: Path
    prefix: str = field(default_factory=lambda: f"of{uuid.uuid4().hex[:10]}-")
    delivered: int = 0
    bootstrap: str = ""
    failing: dict[tuple[str, str], str] = field(default_factory=dict)
    """By stage and the id of an inbox event: what becomes of the event there. `dropped`, or `dead letter`."""

    def send(self, *events: CloudEvent) -> None:
        """To validate, as if they had been in the inbox."""
        for event in events:
            assert self.stages["validate"].binary(event).status_code == 204

    def publish(self, *events: CloudEvent) -> None:
        """To the inbox, from where deliver() hands them on with their places."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random"})
        for event in events:
            producer.produce(topics.INBOX, event.data, event.key, headers=event.kafka_headers())
            assert producer.flush(20) == 0

    def deliver(self) -> int:
        """Hands on what is new in the topics, once, in sequence, with its place, as KafkaSource does; returns how much
        it was.

        What a stage has published is in its topic before it answers.
        """
        count = 0
        self.tap.read_to_end()
        while self.delivered < len(self.tap.seen):
            topic, event = self.tap.seen[self.delivered]
            partition, offset = self.tap.places[self.delivered]
            self.delivered += 1
            stage = (STAGE_OF | NOTIFIED).get(topic)
            if stage is not None and event.subject.startswith(self.prefix):
                place = {"knativekafkapartition": str(partition), "knativekafkaoffset": str(offset)}
                self._hand_over(stage, event.with_extensions(**place))
                count += 1
        return count

    def _hand_over(self, stage: str, event: CloudEvent) -> None:
        failure = self.failing.pop((stage, event.extensions.get("originid", event.id)), None)
        if failure is None:
            assert self.stages[stage].binary(event).status_code == 204
        elif failure == "dead letter":
            error = {"knativeerrordest": f"http://{stage}.orderflow.svc", "knativeerrorcode": "503"}
            assert self.stages["park"].binary(event.with_extensions(**error)).status_code == 204

    def until(self, condition: Callable[[], bool]) -> None:
        """Delivers until it is so."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.deliver()
            time.sleep(PAUSE_SECONDS)

    def settle(self) -> None:
        """Delivers until nothing new comes."""
        while self.deliver():
            pass

    @contextlib.contextmanager
    def delivering(self) -> Iterator[None]:
        """Delivers all the time while the block runs, for what waits for an outcome."""
        ended = threading.Event()
        faults: list[BaseException] = []

        def work() -> None:
            try:
                while not ended.wait(PAUSE_SECONDS):
                    self.deliver()
            except BaseException as error:  # noqa: BLE001 - told in the test's own thread
                faults.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert faults == []

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database, row_factory=dict_row) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def order(self, order_id: str) -> dict[str, Any]:
        order: dict[str, Any] = self.query.get(f"/api/orders/{order_id}").json()
        return order

    def parked(self, order_id: str) -> list[dict[str, Any]]:
        """The order's parked events, the latest first."""
        answer = self.query.get("/api/parked", params={"order": order_id})
        parked: list[dict[str, Any]] = answer.json()["parked"]
        return parked

    def act(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.query.post(path, json=body or {}, headers=named)

    def results(self, answer: httpx.Response) -> list[dict[str, Any]]:
        assert answer.status_code == 202, answer.text
        actions: list[dict[str, Any]] = self.query.get(answer.json()["href"]).json()["actions"]
        return actions


@contextlib.contextmanager
def flow(
    bootstrap: str,
    database: str,
    folder: Path,
    own: Callable[[str], dict[str, str]] = lambda _: {},
    more: tuple[str, ...] = (),
    **of_query: str,
) -> Iterator[Flow]:
    """own returns a stage's additional environment variables. These replace the common variables of the same name. more
    names further stages to start."""
    migrate(database)
    create_order_topics(bootstrap, 4)
    environment = {"KAFKA_BOOTSTRAP": bootstrap, "DATABASE_URL": database}
    with ExitStack() as stack:
        stages = {
            name: stack.enter_context(Stage(name, folder / f"{name}.log", **environment | own(name)))
            for name in ("validate", "track", "shelve", *more)
        }
        log = folder / "query.log"
        variables = {"KAFKA_BOOTSTRAP": bootstrap} | own("query") | of_query
        address = stack.enter_context(console(database, log, **variables))
        query = stack.enter_context(httpx.Client(base_url=address, timeout=30, limits=NO_KEEPALIVE))
        tap = Tap(bootstrap, *STAGE_OF, *(NOTIFIED if "notify" in more else ()))
        stack.callback(tap.close)
        yield Flow(stages, tap, query, database, folder, bootstrap=bootstrap)


@contextlib.contextmanager
def own_flow(folder: Path) -> Iterator[Flow]:
    """A flow on the servers that KAFKA_BOOTSTRAP and DATABASE_URL name, in a database of its own; on embedded servers
    where they name none."""
    kafka, database = os.environ.get("KAFKA_BOOTSTRAP"), os.environ.get("DATABASE_URL")
    if kafka and database:
        name = f"test_{uuid.uuid4().hex}"
        with flow(kafka, create_database(database, name), folder) as opened:
            yield opened
        drop_database(database, name)
        return
    with (
        EmbeddedKafka(folder / "kafka") as broker,
        EmbeddedPostgres(folder / "postgres") as postgres,
        flow(broker.bootstrap, postgres.url, folder) as opened,
    ):
        yield opened
