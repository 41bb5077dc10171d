"""How pages write times, durations, rates and amounts. register() makes these functions filters of the templates."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from orderflow.domain.events import kind_of
from orderflow.domain.money import show

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jinja2 import Environment

    from orderflow.query.store.statistics import Rate

MINUTE, HOUR, DAY = 60, 3600, 86400
_CHART_HEIGHT: Final = 20
_BAR_PITCH: Final = 6


def rfc3339(moment: datetime) -> str:
    """In UTC, for programs."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def timestamp(moment: datetime) -> str:
    """In UTC, for people; always of the same width, so that a column of times lines up."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    seconds = max(seconds, 0)
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def age(moment: datetime, now: datetime) -> str:
    return duration((now - moment).total_seconds())


def delay(seconds: float) -> str:
    """Like duration(), but tenths of a second below one minute."""
    return f"{max(seconds, 0):.1f} s" if seconds < MINUTE else duration(seconds)


def event_name(event_type: str) -> str:
    """The kind of one of our event types; any other type as it is."""
    return kind_of(event_type) or event_type or "(no type)"


def sentence(text: str) -> str:
    """Capitalizes the first letter and leaves all others."""
    return text[:1].upper() + text[1:]


def per_second(count: int) -> str:
    """A count per minute as a rate."""
    rate = count / MINUTE
    if rate >= 100:  # noqa: PLR2004
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 1 or not count else f"{rate:.2f}"


def money(amount: int, currency: str) -> str:
    return show(amount, currency) if currency else ""


def bars(rates: Sequence[Rate]) -> list[dict[str, Any]]:
    """The sum of the rates per minute as the bars of a chart, oldest first."""
    totals = [sum(minute) for minute in zip(*(rate.minutes for rate in rates), strict=True)][::-1]
    highest = max(totals, default=0) or 1
    return [
        {
            "x": index * _BAR_PITCH,
            "height": (height := max(round(_CHART_HEIGHT * total / highest), 1 if total else 0)),
            "y": _CHART_HEIGHT - height,
        }
        for index, total in enumerate(totals)
    ]


def register(templates: Environment) -> None:
    functions = (
        rfc3339,
        timestamp,
        duration,
        age,
        delay,
        event_name,
        sentence,
        per_second,
        money,
        bars,
    )
    templates.filters.update({function.__name__: function for function in functions})
