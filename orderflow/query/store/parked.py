"""Parked events: the list, and one event with its content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg.rows import dict_row
from psycopg.sql import SQL

from orderflow.query.store.read_model import ParkedRecord, ParkedSummary
from orderflow.query.store.snapshot_pool import all_of, fetch

if TYPE_CHECKING:
    from typing import LiteralString

    from orderflow.query.store.filters import ParkedFilter
    from orderflow.query.store.snapshot_pool import Connection, Values

PARKED: Final = """
SELECT p.id, p.order_id, p.stage, p.code, p.reasons, p.event_type, p.source, p.event_id,
       p.attributes ->> 'originsource' AS origin_source, p.attributes ->> 'originid' AS origin_id,
       p.topic, p.partition, p."offset", p.http_code, p.revision, p.state, p.times, p.replays, p.parked_at, p.seen_at
FROM parked p WHERE {conditions} ORDER BY {order} LIMIT %(limit)s
"""
LATEST_FIRST: Final = "p.parked_at DESC, p.id DESC"
OLDEST_FIRST: Final = "p.parked_at, p.id"
CONDITIONS: Final[dict[str, LiteralString]] = {
    "id": "p.id = %(id)s",
    "state": "p.state = %(state)s",
    "stage": "p.stage = %(stage)s",
    "code": "p.code = %(code)s",
    "order": "p.order_id = %(order)s",
    "older": "(p.parked_at, p.id) < (%(cursor_at)s, %(cursor_id)s)",
    "newer": "(p.parked_at, p.id) > (%(cursor_at)s, %(cursor_id)s)",
}
CONTENT: Final = "SELECT attributes, payload FROM parked WHERE id = %(id)s"
STAGES_AND_CODES: Final = "SELECT DISTINCT stage, code FROM parked ORDER BY stage, code LIMIT 200"


def page(connection: Connection, parked_filter: ParkedFilter) -> list[ParkedSummary]:
    """The rows of the page and, where more rows follow, one row more."""
    values: Values = {name: getattr(parked_filter, name) for name in ("state", "stage", "code", "order")}
    names = [name for name, value in values.items() if value]
    if parked_filter.cursor is not None:
        names.append("newer" if parked_filter.towards_newer else "older")
        values |= {"cursor_at": parked_filter.cursor.at, "cursor_id": parked_filter.cursor.id}
    statement = SQL(PARKED).format(
        conditions=all_of([CONDITIONS[name] for name in names]),
        order=SQL(OLDEST_FIRST if parked_filter.towards_newer else LATEST_FIRST),
    )
    return fetch(connection, ParkedSummary, statement, values | {"limit": parked_filter.limit + 1})


def latest_of_order(connection: Connection, order_id: str, limit: int) -> list[ParkedSummary]:
    return _latest(connection, "order", order_id, limit)


def event(connection: Connection, parked_id: str) -> ParkedRecord | None:
    summaries = _latest(connection, "id", parked_id, limit=1)
    content = connection.cursor(row_factory=dict_row).execute(CONTENT, {"id": parked_id}).fetchone()
    if not summaries or content is None:
        return None
    return ParkedRecord(summaries[0], content["attributes"], content["payload"])


def stages_and_codes(connection: Connection) -> tuple[list[str], list[str]]:
    """The stages and the reason codes that any parked event has."""
    pairs = connection.execute(STAGES_AND_CODES).fetchall()
    return sorted({stage for stage, _ in pairs}), sorted({code for _, code in pairs})


def _latest(connection: Connection, condition: str, value: str, limit: int) -> list[ParkedSummary]:
    statement = SQL(PARKED).format(conditions=SQL(CONDITIONS[condition]), order=SQL(LATEST_FIRST))
    return fetch(connection, ParkedSummary, statement, {condition: value, "limit": limit})
