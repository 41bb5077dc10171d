"""The output of `kn order list`, `status` and `history`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.domain.attention import NEEDS
from orderflow.kn_order.client import path_of
from orderflow.kn_order.errors import WrongUsageError
from orderflow.kn_order.output import (
    Output,
    age,
    facts,
    money,
    reason_text,
    state,
    table,
    timestamp,
    write_json,
    write_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from orderflow.kn_order.session import Session

Json = dict[str, Any]


def show_list(session: Session, need: str | None, limit: int, output: Output) -> None:
    """Raises WrongUsageError for an unknown need."""
    if need is not None and need not in NEEDS:
        raise WrongUsageError(f"--need {need}: one of {', '.join(NEEDS)}")
    rows = []
    # `stuck` stands for all stuck_* needs, which say more.
    for name in (need,) if need else [name for name in NEEDS if name != "stuck"]:
        orders = session.client.get(path_of("orders"), attention=name, limit=limit)["orders"]
        rows += [row | {"attention": name} for row in orders]
    rows.sort(key=lambda row: row["updated_at"])
    if output is Output.JSON:
        write_json(rows)
    elif output is Output.NAME:
        write_names(dict.fromkeys(row["order_id"] for row in rows))
    elif rows:
        cells = [
            (
                row["order_id"],
                row["attention"],
                state(row["status"]),
                state(row["payment"]),
                money(row["total"], row["currency"]),
                age(row["updated_at"]),
            )
            for row in rows
        ]
        columns = ("ORDER", "NEED", "STATUS", "PAYMENT", "TOTAL", "FOR")
        session.out.print(table(columns, cells, fixed=("ORDER", "FOR")))
    else:
        session.err.print("no order needs attention")


def show_status(session: Session, order: Json, output: Output) -> None:
    if output is Output.JSON:
        write_json({name: value for name, value in order.items() if name not in {"document", "timeline"}})
        return
    if output is Output.NAME:
        write_names([order["order_id"]])
        return
    session.out.print(facts(_status_facts(order)))


def _status_facts(order: Json) -> Iterator[tuple[str, Text | str]]:
    currency = order["currency"]
    yield "order", order["order_id"]
    yield "status", state(order["status"])
    yield "payment", "" if order["status"] == "awaited" else state(order["payment"])
    yield "needs attention", order["needs"] or ""
    yield "total", money(order["total"], currency)
    yield "captured", money(order["captured"], currency)
    yield "refunded", money(order["refunded"], currency) if order["refunded"] else ""
    yield "placed", timestamp(order["placed_at"])
    yield "changed", f"{timestamp(order['updated_at'])} UTC, version {order['version']}"
    for event in order["waiting"]:
        yield "waiting", f"{event['kind']} {event['id']}, until {timestamp(event['expires_at'])}"
    for parked in order["parked"]:
        if parked["state"] == "open":
            yield "parked", f"{parked['id']}: {reason_text(parked['reasons'][0])}"
    for notification in order["notifications"]:
        if notification["state"] == "failed":
            error = notification["error"] or ""
            yield "not notified", f"{notification['kind']} by {notification['channel']}: {error}"


def show_history(session: Session, order: Json, output: Output) -> None:
    entries: list[Json] = order["timeline"]
    if output is Output.JSON:
        write_json(entries)
    elif output is Output.NAME:
        write_names(entry["kind"] for entry in entries)
    else:
        rows = [
            (
                timestamp(entry["at"]),
                entry["kind"],
                state(entry["outcome"]),
                entry["revision"] or entry["stage"],
                _details(entry),
            )
            for entry in entries
        ]
        columns = ("RECORDED (UTC)", "EVENT", "OUTCOME", "BY", "WHAT")
        session.out.print(table(columns, rows, fixed=columns[:3]))


def _details(entry: Json) -> str:
    lines = [f"{change['of']} {change['from']} > {change['to']}" for change in entry["changes"]]
    lines += [reason_text(entry["reason"])] if entry["reason"] else []
    lines += [f"{name}: {value}" for name, value in entry["details"].items()]
    if entry["parked"]:
        lines.append(f"{'parked as' if entry['outcome'] == 'parked' else 'of'} {entry['parked']}")
    return "\n".join(lines)
