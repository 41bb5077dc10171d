"""A shop whose every stage is a real process that exports traces and keeps its log; the test is the delivery."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx

from orderflow.adapters.postgres.schema import migrate
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow_sandbox.sandbox import create_order_topics
from support.collector import Collector
from support.console import NO_KEEPALIVE, console
from support.stage import Stage
from support.stand_ins import StandIns
from support.topics import Tap
from support.waiting import until

STAGES = ("intake", "validate", "track", "notify", "park", "shelve")
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
"""Milliseconds between two exports."""


@dataclass
class LocalShop:
    stages: dict[str, Stage]
    query: httpx.Client
    collector: Collector
    stand_ins: StandIns
    tap: Tap
    database: str
    logs: Path
    prefix: str = field(default_factory=lambda: f"ow{uuid4().hex[:10]}-")
    delivered: int = 0

    def found(self, topic: str, order_id: str, how_many: int = 1) -> list[CloudEvent]:
        return self.tap.until(lambda where, event: where == topic and event.subject == order_id, how_many)

    def deliver(self) -> None:
        """Hands on whatever is new in any topic until nothing is."""
        before = -1
        while before != self.delivered:
            before = self.delivered
            self.tap.read_to_end()
            while self.delivered < len(self.tap.seen):
                topic, event = self.tap.seen[self.delivered]
                self.delivered += 1
                if event.subject.startswith(self.prefix):
                    self.stages[STAGE_OF[topic]].binary(event)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.logs.glob("*.log")))


STAGE_OF = {
    topics.INBOX: "validate",
    topics.EVENTS: "track",
    topics.STATUS: "notify",
    topics.PARKED: "shelve",
}


@contextlib.contextmanager
def local_shop(
    kafka: str, database: str, folder: Path, *, traced: bool = True, **environment: str
) -> Iterator[LocalShop]:
    """The database is migrated and the topics are there. Without traced nobody asks for traces."""
    migrate(database)
    create_order_topics(kafka, 4)
    with ExitStack() as stack:
        stand_ins = stack.enter_context(StandIns(folder / "stand_ins"))
        collector = stack.enter_context(Collector())
        notifications = folder / "notifications.toml"
        notifications.write_text(stand_ins.notifications())
        until(stand_ins.secret_file.exists)
        variables = {
            "KAFKA_BOOTSTRAP": kafka,
            "DATABASE_URL": database,
            "NOTIFICATIONS_FILE": str(notifications),
            **({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} | SOON if traced else {}),
            **environment,
        }
        stages = {
            name: stack.enter_context(Stage(name, folder / f"{name}.log", **variables)) for name in STAGES
        }
        address = stack.enter_context(console(database, folder / "query.log", **variables))
        query = stack.enter_context(httpx.Client(base_url=address, timeout=30, limits=NO_KEEPALIVE))
        tap = Tap(kafka, *topics.ALL)
        stack.callback(tap.close)
        yield LocalShop(stages, query, collector, stand_ins, tap, database, folder)
