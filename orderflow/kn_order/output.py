"""How a terminal shows it: tables of 100 columns at most, colour only where there is somebody to see it."""

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
_COLOURS: Final = {
    "good": {"applied", "done", "accepted", "paid", "delivered", "complete", "sent"},
    "warn": {"held", "awaited", "waiting", "asked", "replayed"},
    "bad": {"open", "parked", "refused", "rejected", "failed", "missing", "incomplete"},
}
_STYLES: Final = {word: style for style, words in _COLOURS.items() for word in words}
_RICH: Final = {"good": "green", "warn": "yellow", "bad": "red"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    NAME = "name"


def terminal(*, stderr: bool = False) -> Console:
    """Where nobody looks, lines are as wide as a wide terminal's, and have no colour."""
    console = Console(stderr=stderr, highlight=False)
    return Console(
        stderr=stderr, highlight=False, width=min(console.width, WIDTH) if console.is_terminal else WIDTH
    )


def write_json(what: object) -> None:
    sys.stdout.write(json.dumps(what, indent=2, ensure_ascii=False) + "\n")


def write_names(names: Iterable[str]) -> None:
    sys.stdout.writelines(f"{name}\n" for name in names)


def word(text: str) -> Text:
    """A state, in the colour that says the same once more."""
    return Text(text, style=_RICH.get(_STYLES.get(text, ""), ""))


def plain(text: object) -> Text:
    """What came from outside: never read as markup, and never what a terminal obeys."""
    shown = str(text)
    return Text(
        shown if shown.isprintable() else "".join(c if c.isprintable() or c == "\n" else "?" for c in shown)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Text | str]], fixed: Sequence[str] = ()) -> Table:
    """Columns named in fixed are never broken; the others are, rather than cut."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for name in columns:
        found.add_column(name, overflow="fold", no_wrap=name in fixed)
    for row in rows:
        found.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in row))
    return found


def under_one_another(first: str, second: str) -> Text:
    """Two ids in one cell, where two columns of them leave no room for the rest."""
    return plain(f"{first}\n{second}")


def fits(console: Console, shown: Table) -> bool:
    """Whether the terminal is wide enough for the table without a word of it being broken."""
    unbounded = console.options.update(max_width=sys.maxsize)
    return Measurement.get(console, unbounded, shown).minimum <= console.width


def facts(pairs: Iterable[tuple[str, Text | str]]) -> Table:
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    found.add_column(style="dim", no_wrap=True)
    found.add_column(overflow="fold")
    for name, value in pairs:
        if str(value):
            found.add_row(name, plain(value) if isinstance(value, str) else value)
    return found


def moment(text: str | None) -> str:
    """An RFC 3339 time as people read it, in UTC."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def age(text: str) -> str:
    seconds = max((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds(), 0)
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def kind(event_type: str) -> str:
    """An event type without what all of ours have in common."""
    short = event_type.removeprefix("dev.orderflow.order.")
    return short.removesuffix(".v1") if short != event_type else event_type or "(none)"


def money(amount: int, currency: str) -> str:
    from orderflow.domain.money import show

    return show(amount, currency) if currency else ""


def because(reason: Json | None) -> str:
    return f"{reason['text']} ({reason['code']})" if reason else ""
