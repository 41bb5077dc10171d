"""`kn order list`, `status` and `history`: how an order is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.kn_order.client import WrongUsageError, path_of
from orderflow.kn_order.output import (
    Output,
    age,
    because,
    facts,
    moment,
    money,
    table,
    word,
    write_json,
    write_names,
)
from orderflow.query.store.filters import NEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from orderflow.kn_order.session import Session

Json = dict[str, Any]


def show_needing(about: Session, need: str | None, limit: int, output: Output) -> None:
    """Raises WrongUsageError for a need that there is not."""
    if need is not None and need not in NEEDS:
        raise WrongUsageError(f"--need {need}: one of {', '.join(NEEDS)}")
    rows = []
    # `stuck` is all of its codes together, and those say more.
    for name in (need,) if need else [each for each in NEEDS if each != "stuck"]:
        found = about.client.get(path_of("orders"), attention=name, limit=limit)["orders"]
        rows += [row | {"attention": name} for row in found]
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
                word(row["status"]),
                word(row["payment"]),
                _total(row),
                age(row["updated_at"]),
            )
            for row in rows
        ]
        columns = ("ORDER", "NEEDS A HAND", "STATUS", "PAYMENT", "TOTAL", "FOR")
        about.out.print(table(columns, cells, fixed=("ORDER", "FOR")))
    else:
        about.err.print("no order needs a hand")


def _total(row: Json) -> str:
    return money(row["total"], row["currency"])


def show_status(about: Session, order: Json, output: Output) -> None:
    if output is Output.JSON:
        write_json({name: value for name, value in order.items() if name not in {"document", "timeline"}})
        return
    if output is Output.NAME:
        write_names([order["order_id"]])
        return
    about.out.print(facts(_facts(order)))


def _facts(order: Json) -> Iterator[tuple[str, Text | str]]:
    currency = order["currency"]
    yield "order", order["order_id"]
    yield "status", word(order["status"])
    yield "payment", "" if order["status"] == "awaited" else word(order["payment"])
    yield "needs a hand", order["needs"] or ""
    yield "total", money(order["total"], currency)
    yield "captured", money(order["captured"], currency)
    yield "refunded", money(order["refunded"], currency) if order["refunded"] else ""
    yield "placed", moment(order["placed_at"])
    yield "changed", f"{moment(order['updated_at'])} UTC, version {order['version']}"
    for early in order["waiting"]:
        yield "waiting", f"{early['kind']} {early['id']}, until {moment(early['expires_at'])}"
    for letter in order["parked"]:
        if letter["state"] == "open":
            yield "parked", f"{letter['id']}: {because(letter['reasons'][0])}"
    for sent in order["notifications"]:
        if sent["state"] == "failed":
            yield "not told", f"{sent['kind']} by {sent['channel']}: {sent['error'] or ''}"


def show_history(about: Session, order: Json, output: Output) -> None:
    turns: list[Json] = order["timeline"]
    if output is Output.JSON:
        write_json(turns)
    elif output is Output.NAME:
        write_names(turn["kind"] for turn in turns)
    else:
        rows = [
            (
                moment(turn["at"]),
                turn["kind"],
                word(turn["outcome"]),
                turn["revision"] or turn["stage"],
                _told(turn),
            )
            for turn in turns
        ]
        columns = ("RECORDED (UTC)", "EVENT", "OUTCOME", "BY", "WHAT")
        about.out.print(table(columns, rows, fixed=columns[:3]))


def _told(turn: Json) -> str:
    parts = [f"{change['of']} {change['from']} > {change['to']}" for change in turn["changes"]]
    parts += [because(turn["reason"])] if turn["reason"] else []
    parts += [f"{name}: {value}" for name, value in turn["details"].items()]
    if turn["parked"]:
        parts.append(f"{'parked as' if turn['outcome'] == 'parked' else 'of'} {turn['parked']}")
    return "\n".join(parts)
