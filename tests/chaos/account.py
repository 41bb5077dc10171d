"""Compares what was sent with what the database has and what the stand-ins received. Whole tables stream
through: nothing is held but the journal's file."""

from dataclasses import dataclass, field
from typing import get_args

import psycopg

from orderflow.messaging.cloudevent import derived_id
from orderflow.notify.model import CustomerKind, StatusKind
from orderflow.track.decision import STAGE
from tests.chaos.journal import Journal
from tests.chaos.stand_ins import ENDPOINT

_SHOWN = 10
_ORDERS = "SELECT order_id, status, payment, version FROM orders WHERE starts_with(order_id, %s)"
_LEDGER = """SELECT source, id, order_id, outcome, extract(epoch FROM recorded_at)::float8 FROM ledger
WHERE starts_with(order_id, %s)"""
_HISTORY = "SELECT order_id, version, source, id, kind FROM history WHERE starts_with(order_id, %s)"
_FINISHED = """SELECT event_id, extract(epoch FROM finished_at)::float8 FROM notifications
WHERE starts_with(order_id, %s) AND finished_at IS NOT NULL"""
_PARKED = """SELECT id, order_id, code, topic, partition, "offset", coalesce(attributes ->> 'originsource', source),
coalesce(attributes ->> 'originid', event_id) FROM parked WHERE NOT id = ANY (%s)"""

# A record that the audit has published again is parked at its new place, under its own id.
_THIS_POISON = """
p.topic = x.topic AND p.partition = x.partition AND p.place = x.place OR x.event_id <> '' AND p.event_id = x.event_id
"""
_LOSSES = {
    "no outcome": """
        SELECT s.source || ' ' || s.id FROM sent s
        WHERE NOT EXISTS (SELECT 1 FROM ledger l WHERE l.source = s.source AND l.id = s.id)
          AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.source = s.source AND p.event_id = s.id)""",
    "waits still": "SELECT source || ' ' || id FROM ledger WHERE outcome = 'waiting'",
    "not where its scenario ends": """
        SELECT t.order_id || ' (' || t.scenario || '): ' || coalesce(o.status || ' ' || o.payment, 'no order')
        FROM scenarios t LEFT JOIN orders o USING (order_id)
        WHERE o.status IS NOT t.status OR o.payment IS NOT t.payment""",
    "applied without effect": """
        SELECT source || ' ' || id FROM ledger l WHERE outcome = 'applied'
          AND NOT EXISTS (SELECT 1 FROM history h WHERE h.source = l.source AND h.id = l.id)""",
    "not notified": """
        SELECT order_id || ' ' || kind FROM due d WHERE NOT EXISTS (SELECT 1 FROM received r WHERE r.id = d.id)""",
    "poison not parked": f"""
        SELECT x.name FROM poison x WHERE NOT EXISTS (
            SELECT 1 FROM parked p WHERE {_THIS_POISON})""",
    "not parked": """
        SELECT t.order_id || ' (' || t.scenario || ')' FROM scenarios t
        WHERE (SELECT count(*) FROM parked p WHERE p.order_id = t.order_id) < t.parks""",
}
_EFFECTS = {
    "effect twice": "SELECT source || ' ' || id FROM history GROUP BY source, id HAVING count(*) > 1",
    "in the ledger twice": "SELECT source || ' ' || id FROM ledger GROUP BY source, id HAVING count(*) > 1",
    "effect without a cause": """
        SELECT h.source || ' ' || h.id FROM history h
        WHERE NOT EXISTS (
            SELECT 1 FROM ledger l WHERE l.source = h.source AND l.id = h.id AND l.outcome = 'applied')""",
    "decided though nobody sent it": """
        SELECT source || ' ' || id FROM ledger l
        WHERE NOT EXISTS (SELECT 1 FROM sent s WHERE s.source = l.source AND s.id = l.id)""",
    "versions not in sequence": """
        SELECT o.order_id FROM orders o LEFT JOIN history h USING (order_id) GROUP BY o.order_id
        HAVING o.version <> count(h.version) OR (count(h.version) > 0
               AND (min(h.version) <> 1 OR max(h.version) <> o.version OR count(DISTINCT h.version) <> o.version))""",
}
_PARKED_TOO_OFTEN = {
    "parked though it should not be": f"""
        SELECT p.order_id || ' ' || p.code FROM parked p LEFT JOIN scenarios t USING (order_id)
        WHERE coalesce(t.parks, 0) = 0 AND NOT EXISTS (
            SELECT 1 FROM poison x WHERE {_THIS_POISON})""",
    "parked more than once": """
        SELECT p.order_id || ' ' || group_concat(p.code) FROM parked p JOIN scenarios t USING (order_id)
        GROUP BY p.order_id HAVING t.parks > 0 AND count(*) > t.parks""",
}


@dataclass
class Account:
    """Counts, and by kind of fault the first few of each by name."""

    orders: int = 0
    events: int = 0
    redelivered: int = 0
    losses: int = 0
    effects_twice: int = 0
    sent_twice: int = 0
    most_sent: int = 0
    parks_due: int = 0
    parks_found: int = 0
    parked_wrongly: int = 0
    named: dict[str, list[str]] = field(default_factory=dict)


def parked_before(database: str) -> list[str]:
    """What other scenarios have left on the shelf."""
    with psycopg.connect(database) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM parked")]


def account(journal: Journal, database: str, prefix: str, before: list[str]) -> Account:
    """prefix is that of the scenario's order ids; before is what was parked when it began."""
    _copy(journal, database, prefix, before)
    result = Account(orders=journal.orders, events=journal.events)
    result.losses = _count(journal, _LOSSES, result)
    result.effects_twice = _count(journal, _EFFECTS, result)
    result.parked_wrongly = _count(journal, _PARKED_TOO_OFTEN, result)
    result.sent_twice = journal.number("SELECT sum(times - 1) FROM received") + _count(
        journal, _UNASKED, result
    )
    result.most_sent = journal.number("SELECT max(times) FROM received")
    result.parks_due = journal.number("SELECT sum(parks) FROM scenarios") + journal.number(
        "SELECT count(*) FROM poison"
    )
    result.parks_found = journal.number("SELECT count(*) FROM parked")
    return result


_UNASKED = {
    "sent though nothing asked for it": """
        SELECT r.id FROM received r WHERE NOT EXISTS (SELECT 1 FROM due d WHERE d.id = r.id)"""
}


def _count(journal: Journal, questions: dict[str, str], result: Account) -> int:
    total = 0
    for what, question in questions.items():
        if number := journal.number(f"SELECT count(*) FROM ({question})"):
            total += number
            result.named[what] = [row[0] for row in journal.database.execute(f"{question} LIMIT {_SHOWN}")]
    return total


def _copy(journal: Journal, database: str, prefix: str, before: list[str]) -> None:
    copied = [
        ("orders", _ORDERS, [prefix], 4),
        ("ledger", _LEDGER, [prefix], 5),
        ("history", _HISTORY, [prefix], 5),
        ("finished", _FINISHED, [prefix], 2),
        ("parked", _PARKED, [before], 8),
    ]
    with psycopg.connect(database) as connection:
        for table, question, values, width in copied:
            with connection.cursor(name=table) as rows:
                rows.execute(question, values)
                holes = ", ".join("?" * width)
                journal.database.executemany(f"INSERT INTO {table} VALUES ({holes})", rows)
    changes = journal.database.execute(
        "SELECT h.order_id, h.source, h.id, h.kind, t.recipient FROM history h JOIN scenarios t USING (order_id)"
    )
    journal.database.executemany(
        "INSERT OR IGNORE INTO due VALUES (?, ?, ?, ?, ?, ?)",
        (row for each in changes for row in _due(*each)),
    )


def _due(order_id: str, source: str, event_id: str, kind: str, recipient: str) -> list[tuple[str, ...]]:
    """The Message-ID and the webhook-id that a change has to give."""
    announced = derived_id(STAGE, source, event_id)
    due = []
    if kind in get_args(CustomerKind):
        due.append((derived_id("email", announced, recipient), f"{kind} email"))
    if kind in get_args(StatusKind):
        due.append((derived_id("webhook", announced, ENDPOINT), f"{kind} webhook"))
    return [(message, order_id, what, source, event_id, announced) for message, what in due]


_LAST_OUTCOME = """
SELECT max(l.at) FROM sent s JOIN ledger l USING (source, id) WHERE s.began BETWEEN :began AND :ended
"""
_LAST_NOTIFICATION = """
SELECT max(f.at) FROM sent s JOIN due d ON d.source = s.source AND d.event_id = s.id JOIN finished f USING (announced)
WHERE s.began BETWEEN :began AND :ended
"""


def recovered_after(journal: Journal, began: float, ended: float) -> float:
    """Seconds from the fault's begin until all that was sent before its end had its outcome and was notified."""
    window = {"began": began - 1, "ended": ended + 1}
    times = [
        journal.database.execute(each, window).fetchone()[0] for each in (_LAST_OUTCOME, _LAST_NOTIFICATION)
    ]
    return max([0.0, *(last - began for last in times if last is not None)])
