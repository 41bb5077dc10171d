"""Durations as in Argo Rollouts' steps: `30s`, `1h30m`, or a number of seconds."""

from __future__ import annotations

import re
from typing import Final

# Go's grammar of durations, as far as Argo documents it for steps.
DURATION: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$|^[0-9]+$"
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration_seconds(duration: str | int) -> float:
    """`1m30s` -> 90.0. The text must match DURATION."""
    text = str(duration)
    if text.isdecimal():
        return float(text)
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))


def validate_duration(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(DURATION, value):
        return value
    raise ValueError("a duration is a number of seconds, or such as 30s, 5m, 1h30m")
