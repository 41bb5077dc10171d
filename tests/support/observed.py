"""What track left behind, in the model's own words: the rows of some orders, and what is in the topics."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from orderflow.adapters.postgres.pool import Database
from orderflow.domain.rules import Waiting
from orderflow.messaging import topics
from orderflow.messaging.cloudevent import CloudEvent
from orderflow.settings import DatabaseSettings
from orderflow.track.store import OrderStore
from support.model import Entry, ParkedRecord, World

TABLES = {
    "orders": """SELECT order_id, status, payment, total, captured, refunded, coalesce(resumes, ''), version, digest
                 FROM orders WHERE order_id = ANY(%s) AND status <> 'awaited'""",
    "ledger": """SELECT source, id, order_id, kind, digest, outcome, coalesce(reason ->> 'code', ''),
                        first_version, last_version, array_to_string(replays, ' '),
                        (SELECT string_agg(each, ' ' ORDER BY number) FROM unnest(former_digests)
                         WITH ORDINALITY AS f (each, number) WHERE each NOT LIKE '2:%%')
                 FROM ledger WHERE order_id = ANY(%s)""",
    "waiting": "SELECT source, id FROM waiting WHERE order_id = ANY(%s)",
    "overdue": "SELECT source, id FROM waiting WHERE order_id = ANY(%s) AND expires_at < now()",
    "history": """SELECT order_id, version, source, id, kind, status, payment, captured, refunded
                  FROM history WHERE order_id = ANY(%s)""",
}
Tables = dict[str, set[tuple[Any, ...]]]


class Bench:
    """What all examples share: an event loop, and a pool for each worker."""

    def __init__(self, url: str, workers: int = 3) -> None:
        self.runner = asyncio.Runner()
        self.databases = [Database(DatabaseSettings(database_url=SecretStr(url))) for _ in range(workers)]
        self.examples = 0

    def store(self, worker: int) -> OrderStore:
        return OrderStore(self.databases[worker], revision="track-00001", waiting=Waiting())

    def tables(self, order_ids: list[str]) -> Tables:
        return self.runner.run(self._read(order_ids))

    async def _read(self, order_ids: list[str]) -> Tables:
        tables: Tables = {}
        async with self.databases[0].connection() as connection:
            for name, query in TABLES.items():
                rows = await (await connection.execute(query, [order_ids])).fetchall()
                tables[name] = {tuple(row.values()) for row in rows}
        return tables

    def execute(self, statement: str, values: list[Any]) -> None:
        async def run() -> None:
            async with self.databases[0].connection() as connection:
                await connection.execute(statement, values)

        self.runner.run(run())

    def column(self, query: str) -> list[Any]:
        """The first column of what a question finds."""

        async def read() -> list[Any]:
            async with self.databases[0].connection() as connection:
                rows = await (await connection.execute(query)).fetchall()
                return [next(iter(row.values())) for row in rows]

        return self.runner.run(read())

    def close(self) -> None:
        for database in self.databases:
            self.runner.run(database.close())
        self.runner.close()


def tables_of(world: World) -> Tables:
    """What the database must hold in that world."""
    return {
        "orders": {
            (name, o.status, o.payment, o.total, o.captured, o.refunded, o.was, o.version, o.digest)
            for name, o in world.orders.items()
        },
        "ledger": {(*key, *_columns(entry)) for key, entry in world.ledger.items()},
        "waiting": set(world.waiting),
        "history": {(*place, *change) for place, change in world.history.items()},
    }


def _columns(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.order_id, entry.kind, entry.digest, entry.outcome, entry.why, entry.first, entry.last,
        " ".join(entry.replays) or None, " ".join(entry.former) or None,
    )  # fmt: skip


@dataclass
class PublishedEvents:
    """What was published so far. changes: by order and version, as in World.history."""

    changes: dict[tuple[str, int], tuple[Any, ...]] = field(default_factory=dict)
    parked: dict[ParkedRecord, str] = field(default_factory=dict)
    _ids: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)

    def listen(self, logs: dict[str, list[CloudEvent]]) -> None:
        """Reads on; fails where one id has two contents, or one content two ids."""
        for topic, check in ((topics.STATUS, self._change), (topics.PARKED, self._parked)):
            log = logs.get(topic, [])
            for event in log[self._read.get(topic, 0) :]:
                check(event)
            self._read[topic] = len(log)

    def _change(self, event: CloudEvent) -> None:
        content = (event.subject, event.type, event.time, event.data)
        assert self._ids.setdefault(event.id, content) == content, "one id, two contents"
        data = json.loads(event.data)
        origin = (event.extensions["originsource"], event.extensions["originid"])
        change = (*origin, *(data[name] for name in ("kind", "status", "payment", "captured", "refunded")))
        place = (event.subject, data["version"])
        assert self.changes.setdefault(place, change) == change, "one version, two changes"

    def _parked(self, event: CloudEvent) -> None:
        data = json.loads(event.data)
        names = ("originsource", "originid", "subject", "origindigest")
        source, event_id, order_id, digest = (data["attributes"][name] for name in names)
        record = (source, event_id, order_id, digest, data["reasons"][0]["code"])
        assert self.parked.setdefault(record, event.id) == event.id, "one parked record, two ids"
