"""How parked events are shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.kn_order.client import path_of
from orderflow.kn_order.output import (
    Output,
    age,
    because,
    facts,
    fits,
    kind,
    moment,
    plain,
    table,
    under_one_another,
    word,
    write_json,
    write_names,
)
from orderflow.kn_order.session import outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from orderflow.kn_order.session import Session

Json = dict[str, Any]

_PAGE: Final = 200


def show_list(about: Session, asked: Json, limit: int, output: Output) -> None:
    rows = _pages(about, asked, limit)
    if output is Output.JSON:
        write_json(rows)
    elif output is Output.NAME:
        write_names(row["id"] for row in rows)
    elif rows:
        cells = [
            {
                "ID": row["id"],
                "STATE": word(row["state"]),
                "EVENT": kind(row["event_type"]),
                "STAGE": row["stage"],
                "REASON": row["code"],
                "ORDER": row["order_id"] or "-",
                "FOR": age(row["parked_at"]),
            }
            for row in rows
        ]
        left_out = set() if asked["state"] is None else {"STATE"}
        about.out.print(
            _with_whole_ids(about.out, [name for name in cells[0] if name not in left_out], cells)
        )
    else:
        about.err.print("no parked event is like that")
    if len(rows) == limit:
        about.err.print(f"the latest {limit}; --limit shows more")


def _with_whole_ids(
    console: Console, columns: Sequence[str], rows: Sequence[Mapping[str, Text | str]]
) -> Table:
    """Ids are there to be copied, so they are never broken: an order's id goes under its event's where there is no
    room beside it, and then the other columns give way."""
    fixed = ("ID", "ORDER", "STATE", "FOR")
    beside = table(columns, ([row[name] for name in columns] for row in rows), fixed)
    if fits(console, beside):
        return beside
    others = [name for name in columns if name not in {"ID", "ORDER"}]
    under = ([_ids(row), *(row[name] for name in others)] for row in rows)
    return table(("ID\nORDER", *others), under, ("ID\nORDER", *fixed))


def _ids(row: Mapping[str, Text | str]) -> Text:
    return under_one_another(str(row["ID"]), str(row["ORDER"]))


def _pages(about: Session, asked: Json, limit: int) -> list[Json]:
    rows: list[Json] = []
    page: Json = {"older": path_of("parked")}
    given: Json = asked | {"limit": min(limit, _PAGE)}
    while page["older"] and len(rows) < limit:
        page = about.client.get(page["older"], **given)
        given = {}
        rows += page["parked"]
    return rows[:limit]


def show_letter(about: Session, found: Json, output: Output) -> None:
    if output is Output.JSON:
        write_json(found)
        return
    if output is Output.NAME:
        write_names([found["id"]])
        return
    place = f"{found['topic']}, partition {found['partition']}, offset {found['offset']}"
    about.out.print(
        facts(
            [
                ("id", found["id"]),
                ("state", word(found["state"])),
                ("event", found["event_type"] or "(none)"),
                ("order", found["order_id"] or "not known"),
                ("failed at", " ".join(filter(None, [found["stage"], found["revision"]]))),
                *(("because", because(reason) + _at(reason)) for reason in found["reasons"]),
                ("it answered", str(found["http_code"] or "")),
                ("record", place if found["partition"] is not None else found["topic"]),
                ("source, id", f"{found['source']} {found['event_id']}".strip()),
                ("parked", f"{moment(found['parked_at'])} UTC"),
                ("times parked", str(found["times"])),
                ("times replayed", str(found["replays"] or "")),
            ]
        )
    )
    _show_done(about, found["actions"])
    size = f"{found['payload_bytes']:,} bytes, {found['payload_form']}"
    hint = ", personal data masked; --reveal shows it" if found["masked"] and found["payload_bytes"] else ""
    about.out.print(plain(f"\ndata ({size}{hint})"), style="bold")
    about.out.print(plain(found["payload"]), soft_wrap=True)


def _at(reason: Json) -> str:
    return f" at {reason['field']}" if reason["field"] else ""


def _show_done(about: Session, actions: list[Json]) -> None:
    if not actions:
        return
    about.out.print("\nwhat was done", style="bold")
    rows = []
    for action in actions:
        said, why = outcome(action)
        fields = ", ".join(action["detail"].get("fields", []))
        told = "\n".join(filter(None, [action["reason"], f"edited: {fields}" if fields else "", why]))
        rows.append((moment(action["recorded_at"]), action["kind"], action["by"], word(said), told))
    about.out.print(
        table(("RECORDED (UTC)", "ACTION", "BY", "OUTCOME", "WHY"), rows, fixed=("RECORDED (UTC)", "ACTION"))
    )


def show_plan(about: Session, plan: Json, output: Output, *, asking: bool) -> None:
    """What a replay would do; where a question follows it is part of that, and not what was asked for."""
    if output is Output.JSON:
        write_json(plan)
        return
    if output is Output.NAME:
        write_names(taken["parked_id"] for taken in plan["taken"])
        return
    rows: list[dict[str, Text | str]] = [
        {
            "ID": taken["parked_id"],
            "EVENT": kind(taken["event_type"]),
            "ORDER": taken["order_id"],
            "WHAT": "would be replayed",
        }
        for taken in plan["taken"]
    ]
    rows += [
        {
            "ID": left["parked_id"],
            "EVENT": "",
            "ORDER": left["order_id"],
            "WHAT": f"not: {because(left['reason'])}",
        }
        for left in plan["left"]
    ]
    where = about.err if asking else about.out
    if rows:
        where.print(_with_whole_ids(where, list(rows[0]), rows))
    else:
        about.err.print("no open parked event is like that")
    if plan["more"]:
        about.err.print(f"there are more; {len(rows)} go at once")
