"""What a scenario sent and what became of it, in a file of its own: the system under test keeps none of it."""

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from orderflow_sandbox.messages import OrderScenario

_SCHEMA = """
CREATE TABLE scenarios (order_id TEXT PRIMARY KEY, scenario TEXT, recipient TEXT, status TEXT, payment TEXT,
                        parks INTEGER);
CREATE TABLE sent (source TEXT, id TEXT, order_id TEXT, began REAL, times INTEGER, PRIMARY KEY (source, id));
CREATE TABLE poison (name TEXT, event_id TEXT, topic TEXT, partition INTEGER, place INTEGER);
CREATE TABLE received (id TEXT PRIMARY KEY, times INTEGER);

CREATE TABLE orders (order_id TEXT PRIMARY KEY, status TEXT, payment TEXT, version INTEGER);
CREATE TABLE ledger (source TEXT, id TEXT, order_id TEXT, outcome TEXT, at REAL);
CREATE TABLE history (order_id TEXT, version INTEGER, source TEXT, id TEXT, kind TEXT);
CREATE TABLE due (id TEXT PRIMARY KEY, order_id TEXT, kind TEXT, source TEXT, event_id TEXT, announced TEXT);
CREATE TABLE finished (announced TEXT, at REAL);
CREATE TABLE parked (id TEXT, order_id TEXT, code TEXT, topic TEXT, partition INTEGER, place INTEGER,
                     source TEXT, event_id TEXT);
CREATE INDEX ledger_by_key ON ledger (source, id);
CREATE INDEX due_by_event ON due (source, event_id);
CREATE INDEX finished_by_event ON finished (announced);
CREATE INDEX history_by_key ON history (source, id);
CREATE INDEX history_by_order ON history (order_id);
CREATE INDEX parked_by_event ON parked (source, event_id);
"""


class Journal:
    """Not safe against a crash of the harness, which needs none of it then."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        self.database = sqlite3.connect(file, isolation_level=None)
        self.database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)

    def close(self) -> None:
        self.database.close()

    def add_scenario(self, scenario: OrderScenario, recipient: str) -> None:
        ends = scenario.end or (None, None)
        row = (scenario.order_id, scenario.name, recipient, *ends, scenario.parked)
        self.database.execute("INSERT INTO scenarios VALUES (?, ?, ?, ?, ?, ?)", row)

    def confirm(self, identity: tuple[str, str], order_id: str, began: float) -> None:
        self.database.execute(
            "INSERT INTO sent VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
            (*identity, order_id, began),
        )

    def add_poison(self, name: str, event_id: str, topic: str, partition: int, offset: int) -> None:
        """event_id is empty for what is no CloudEvent."""
        row = (name, event_id, topic, partition, offset)
        self.database.execute("INSERT INTO poison VALUES (?, ?, ?, ?, ?)", row)

    def receive(self, ids: Iterable[str]) -> None:
        self.database.executemany(
            "INSERT INTO received VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
            ([each] for each in ids),
        )

    def number(self, question: str, *values: object) -> int:
        """The one number that the question asks for; nothing is 0."""
        (number,) = self.database.execute(question, values).fetchone()
        return number or 0

    @property
    def orders(self) -> int:
        return self.number("SELECT count(*) FROM scenarios")

    @property
    def events(self) -> int:
        return self.number("SELECT count(*) FROM sent")


def now() -> float:
    return time.time()
