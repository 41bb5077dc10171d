"""How parked events are shown in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orderflow.operators.client import path_of
from orderflow.operators.session import outcome
from orderflow.operators.showing import (
    Output,
    age,
    because,
    facts,
    kind,
    moment,
    plain,
    table,
    word,
    write_json,
    write_names,
)

if TYPE_CHECKING:
    from orderflow.operators.session import Session

Json = dict[str, Any]

_PAGE: Final = 200


def show_list(about: Session, asked: Json, limit: int, output: Output) -> None:
    rows = _pages(about, asked, limit)
    if output is Output.JSON:
        write_json(rows)
    elif output is Output.NAME:
        write_names(row["id"] for row in rows)
    elif rows:
        show_state = asked["state"] is None
        columns = ["ID", *(["STATE"] if show_state else []), "EVENT", "STAGE", "REASON", "ORDER", "FOR"]
        cells = [
            (
                row["id"],
                *([word(row["state"])] if show_state else []),
                kind(row["event_type"]),
                row["stage"],
                row["code"],
                row["order_id"] or "-",
                age(row["parked_at"]),
            )
            for row in rows
        ]
        about.out.print(table(columns, cells, fixed=("ID", "STATE", "FOR")))
    else:
        about.err.print("no parked event is like that")
    if len(rows) == limit:
        about.err.print(f"the latest {limit}; --limit shows more")


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
    rows = [
        (taken["parked_id"], kind(taken["event_type"]), taken["order_id"], "would be replayed")
        for taken in plan["taken"]
    ]
    rows += [
        (left["parked_id"], "", left["order_id"], f"not: {because(left['reason'])}") for left in plan["left"]
    ]
    where = about.err if asking else about.out
    if rows:
        where.print(table(("ID", "EVENT", "ORDER", "WHAT"), rows, fixed=("ID",)))
    else:
        about.err.print("no open parked event is like that")
    if plan["more"]:
        about.err.print(f"there are more; {len(rows)} go at once")
