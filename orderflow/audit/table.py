"""A report as a table for a terminal, at most 100 columns wide. Its source is the report as JSON has it."""

from __future__ import annotations

from typing import Any, Final

_COLUMNS: Final = (
    "judged",
    "handled",
    "empty",
    "applied",
    "duplicate",
    "refused",
    "waiting",
    "parked",
    "done",
    "missing",
    "postponed",
    "in_flight",
    "removed",
)
_HEADS: Final = {
    "duplicate": "dupl.",
    "refused": "ref.",
    "waiting": "waits",
    "missing": "miss.",
    "postponed": "later",
    "in_flight": "in fl.",
    "removed": "gone",
}
_SENTENCES: Final = {
    "complete": "Nothing is missing.",
    "missing": "Events were missing; the lines above say how each was repaired.",
    "unjudged": "Not every record could be judged; the notes say why.",
    "behind": "A stage is behind: events that look missing may only be delayed. Run the audit again.",
}
_MAX_LINES: Final = 20


def table(report: dict[str, Any]) -> str:
    lines = [_row("topic", [_HEADS.get(name, name) for name in _COLUMNS])]
    lines += [
        _row(topic, [f"{counts[name]:,}" if counts[name] else "-" for name in _COLUMNS])
        for topic, counts in report["topics"].items()
    ]
    lines.append("")
    if report["waits_expired"]:
        lines.append(f"{report['waits_expired']:,} events waited too long and were parked")
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [_missing(each) for each in report["missing"][:_MAX_LINES]]
    if report["missing_count"] > _MAX_LINES:
        lines.append(f"... and {report['missing_count'] - _MAX_LINES:,} more; --json names the first 200")
    lines.append(
        f"audit: {report['records']:,} records and {report['changes']:,} changes checked, "
        f"{report['missing_count']:,} missing. {_SENTENCES[report['state']]}"
    )
    return "\n".join(lines) + "\n"


def _row(topic: str, cells: list[str]) -> str:
    return f"{topic:<17}" + "".join(
        f"{cell:>{max(len(_HEADS.get(name, name)), 5) + 1}}"
        for name, cell in zip(_COLUMNS, cells, strict=True)
    )


def _missing(each: dict[str, Any]) -> str:
    where = (
        each["topic"]
        if each["partition"] is None
        else f"{each['topic']} {each['partition']}@{each['offset']}"
    )
    return f"missing: order {each['order_id'] or '?'}, {where}: {each['reason']} -> {each['remedy']}"
