"""The output of `kn order parked`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.kn_order.client import path_of
from orderflow.kn_order.output import (
    Output,
    age,
    event_kind,
    facts,
    fits,
    plain,
    reason_text,
    state,
    table,
    timestamp,
    write_json,
    write_names,
)
from orderflow.kn_order.session import outcome_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from orderflow.kn_order.session import Session

Json = dict[str, Any]

_PAGE_SIZE: Final = 200


def show_list(session: Session, filters: Json, limit: int, output: Output) -> None:
    rows = _rows(session, filters, limit)
    if output is Output.JSON:
        write_json(rows)
    elif output is Output.NAME:
        write_names(row["id"] for row in rows)
    elif rows:
        cells = [
            {
                "ID": row["id"],
                "STATE": state(row["state"]),
                "EVENT": event_kind(row["event_type"]),
                "STAGE": row["stage"],
                "REASON": row["code"],
                "ORDER": row["order_id"] or "-",
                "FOR": age(row["parked_at"]),
            }
            for row in rows
        ]
        hidden = set() if filters["state"] is None else {"STATE"}
        columns = [name for name in cells[0] if name not in hidden]
        session.out.print(_table_with_ids(session.out, columns, cells))
    else:
        session.err.print("no parked event matches")
    if len(rows) == limit:
        session.err.print(f"the latest {limit}; --limit shows more")


def _table_with_ids(
    console: Console, columns: Sequence[str], rows: Sequence[Mapping[str, Text | str]]
) -> Table:
    """A table that never breaks an id, since ids are there to be copied. Where the terminal is too narrow, the order's
    id goes under the event's id and the cells of the other columns are broken."""
    fixed = ("ID", "ORDER", "STATE", "FOR")
    beside = table(columns, ([row[name] for name in columns] for row in rows), fixed)
    if fits(console, beside):
        return beside
    others = [name for name in columns if name not in {"ID", "ORDER"}]
    below = ([plain(f"{row['ID']}\n{row['ORDER']}"), *(row[name] for name in others)] for row in rows)
    return table(("ID\nORDER", *others), below, ("ID\nORDER", *fixed))


def _rows(session: Session, filters: Json, limit: int) -> list[Json]:
    rows: list[Json] = []
    page: Json = {"older": path_of("parked")}
    arguments: Json = filters | {"limit": min(limit, _PAGE_SIZE)}
    while page["older"] and len(rows) < limit:
        page = session.client.get(page["older"], **arguments)
        arguments = {}  # the address of the next page has them
        rows += page["parked"]
    return rows[:limit]


def show_event(session: Session, event: Json, output: Output) -> None:
    if output is Output.JSON:
        write_json(event)
        return
    if output is Output.NAME:
        write_names([event["id"]])
        return
    record = event["topic"]
    if event["partition"] is not None:
        record += f", partition {event['partition']}, offset {event['offset']}"
    session.out.print(
        facts(
            [
                ("id", event["id"]),
                ("state", state(event["state"])),
                ("event", event["event_type"] or "(none)"),
                ("order", event["order_id"] or "unknown"),
                ("failed at", " ".join(filter(None, [event["stage"], event["revision"]]))),
                *(("because", reason_text(reason) + _field(reason)) for reason in event["reasons"]),
                ("response", str(event["http_code"] or "")),
                ("record", record),
                ("source, id", f"{event['source']} {event['event_id']}".strip()),
                ("parked", f"{timestamp(event['parked_at'])} UTC"),
                ("times parked", str(event["times"])),
                ("times replayed", str(event["replays"] or "")),
            ]
        )
    )
    _show_actions(session, event["actions"])
    size = f"{event['payload_bytes']:,} bytes, {event['payload_form']}"
    hint = ", personal data masked; --reveal shows it" if event["masked"] and event["payload_bytes"] else ""
    session.out.print(plain(f"\ndata ({size}{hint})"), style="bold")
    session.out.print(plain(event["payload"]), soft_wrap=True)


def _field(reason: Json) -> str:
    return f" at {reason['field']}" if reason["field"] else ""


def _show_actions(session: Session, actions: list[Json]) -> None:
    if not actions:
        return
    session.out.print("\nactions", style="bold")
    rows = []
    for action in actions:
        outcome, why = outcome_of(action)
        fields = ", ".join(action["detail"].get("fields", []))
        details = "\n".join(filter(None, [action["reason"], f"edited: {fields}" if fields else "", why]))
        rows.append((timestamp(action["recorded_at"]), action["kind"], action["by"], state(outcome), details))
    columns = ("RECORDED (UTC)", "ACTION", "BY", "OUTCOME", "WHY")
    session.out.print(table(columns, rows, fixed=("RECORDED (UTC)", "ACTION")))


def show_plan(session: Session, plan: Json, output: Output, *, asking: bool) -> None:
    """What a replay would do. asking: the plan is part of a question, so it goes to stderr."""
    if output is Output.JSON:
        write_json(plan)
        return
    if output is Output.NAME:
        write_names(accepted["parked_id"] for accepted in plan["taken"])
        return
    rows: list[dict[str, Text | str]] = [
        {
            "ID": accepted["parked_id"],
            "EVENT": event_kind(accepted["event_type"]),
            "ORDER": accepted["order_id"],
            "WHAT": "would be replayed",
        }
        for accepted in plan["taken"]
    ]
    rows += [
        {
            "ID": skipped["parked_id"],
            "EVENT": "",
            "ORDER": skipped["order_id"],
            "WHAT": f"not: {reason_text(skipped['reason'])}",
        }
        for skipped in plan["left"]
    ]
    console = session.err if asking else session.out
    if rows:
        console.print(_table_with_ids(console, list(rows[0]), rows))
    else:
        session.err.print("no open parked event matches")
    if plan["more"]:
        session.err.print(f"there are more; one request replays at most {len(rows)}")
