"""Output on the terminal: tables of at most 100 columns; colour only on a terminal."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = dict[str, Any]

WIDTH: Final = 100
_STATES: Final = {
    "green": {"applied", "done", "accepted", "paid", "delivered", "complete", "sent"},
    "yellow": {"held", "awaited", "waiting", "asked", "replayed"},
    "red": {"open", "parked", "refused", "rejected", "failed", "missing", "incomplete"},
}
_COLOURS: Final = {name: colour for colour, names in _STATES.items() for name in names}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    NAME = "name"


def terminal(*, stderr: bool = False) -> Console:
    """In a pipe or a file, lines have the width of a wide terminal and no colour."""
    console = Console(stderr=stderr, highlight=False)
    return Console(
        stderr=stderr, highlight=False, width=min(console.width, WIDTH) if console.is_terminal else WIDTH
    )


def write_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_names(names: Iterable[str]) -> None:
    sys.stdout.writelines(f"{name}\n" for name in names)


def state(text: str) -> Text:
    """A state in its colour, which only repeats what the word says."""
    return Text(text, style=_COLOURS.get(text, ""))


def plain(text: object) -> Text:
    """Text from outside: without markup, and without control characters, which a terminal would obey."""
    shown = str(text)
    return Text(
        shown if shown.isprintable() else "".join(c if c.isprintable() or c == "\n" else "?" for c in shown)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Text | str]], fixed: Sequence[str] = ()) -> Table:
    """fixed: columns whose cells are never broken. The cells of other columns are broken rather than cut."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for name in columns:
        result.add_column(name, overflow="fold", no_wrap=name in fixed)
    for row in rows:
        result.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in row))
    return result


def fits(console: Console, table: Table) -> bool:
    """Whether the terminal is wide enough for the table without breaking a word."""
    unbounded = console.options.update(max_width=sys.maxsize)
    return Measurement.get(console, unbounded, table).minimum <= console.width


def facts(pairs: Iterable[tuple[str, Text | str]]) -> Table:
    """One line per name and value; lines without a value are left out."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in pairs:
        if str(value):
            result.add_row(name, plain(value) if isinstance(value, str) else value)
    return result


def timestamp(text: str | None) -> str:
    """An RFC 3339 time for people, in UTC."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def age(text: str) -> str:
    """The time since an RFC 3339 time."""
    seconds = max((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds(), 0)
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def event_kind(event_type: str) -> str:
    """The kind of one of our event types; any other type as it is."""
    short = event_type.removeprefix("dev.orderflow.order.")
    return short.removesuffix(".v1") if short != event_type else event_type or "(none)"


def money(amount: int, currency: str) -> str:
    from orderflow.domain.money import show

    return show(amount, currency) if currency else ""


def reason_text(reason: Json | None) -> str:
    return f"{reason['text']} ({reason['code']})" if reason else ""
