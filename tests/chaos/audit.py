"""The project's own audit, run as an operator or a schedule runs it."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import psycopg

from orderflow.messaging import topics
from orderflow.messaging.cloudevent import derived_id
from tests.chaos import manifests
from tests.chaos.shop import Shop

COMPLETE = 0
MISSING = 1
GRACE_SECONDS = 1


@dataclass(frozen=True)
class Finding:
    """One run. code is the audit's exit code."""

    code: int
    report: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""

    @property
    def missing(self) -> int:
        return int(self.report.get("missing_count", 0))

    @property
    def state(self) -> str:
        return str(self.report.get("state", ""))

    @property
    def notes(self) -> list[str]:
        return list(self.report.get("notes", []))

    @property
    def looked_at(self) -> int:
        """Offsets that were not recorded as handled, so that the audit had to look at them."""
        return sum(each["judged"] - each["handled"] for each in self.report.get("topics", {}).values())


async def run(shop: Shop) -> Finding:
    environment = shop.environment() | {
        "AUDIT_GRACE_SECONDS": str(GRACE_SECONDS),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(manifests.ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "functions.audit", "--json"),
        env=environment,
        cwd=manifests.ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, trouble = await process.communicate()
    code = process.returncode if process.returncode is not None else -1
    return Finding(code, json.loads(output) if output.startswith(b"{") else {}, trouble.decode()[-500:])


_DECIDED = """SELECT source, id FROM ledger
WHERE order_id = %s AND outcome IN ('applied', 'refused', 'waiting') AND recorded_at < %s"""
_NOTIFIED = """SELECT coalesce(bool_and(finished_at < %s), false) FROM notifications WHERE event_id = %s"""
_PARKED = """SELECT EXISTS (SELECT 1 FROM parked WHERE seen_at < %s
AND (id = %s OR topic = %s AND partition = %s AND "offset" = %s))"""


def false_alarms(finding: Finding, database: str) -> list[str]:
    """The events that the report names missing although their effects were in the database before the run began.

    The audit's own remedies are younger than the run. A scenario in which one id has two contents must not be judged
    by this, because a ledger knows one content of an id.
    """
    named = finding.report.get("missing", [])
    if not named:
        return []
    began = finding.report["started_at"]
    with psycopg.connect(database) as connection:
        return [
            f"{each['topic']} {each['reason']} {each['source']} {each['id']}"
            for each in named
            if _had_its_effect(connection, each, began)
        ]


def _had_its_effect(connection: psycopg.Connection[Any], missing: dict[str, Any], began: str) -> bool:
    place = (missing["topic"], missing["partition"], missing["offset"])
    if _is_true(connection, _PARKED, began, missing["id"], *place):
        return True
    if missing["topic"] == topics.STATUS:
        return _is_true(connection, _NOTIFIED, began, missing["id"])
    decided = connection.execute(_DECIDED, (missing["order_id"], began)).fetchall()
    if missing["topic"] == topics.EVENTS:
        return missing["id"] in {derived_id("validate", *each) for each in decided}
    return missing["topic"] == topics.INBOX and (missing["source"], missing["id"]) in decided


def _is_true(connection: psycopg.Connection[Any], question: str, *values: object) -> bool:
    row = connection.execute(question, values).fetchone()
    return row is not None and bool(row[0])
