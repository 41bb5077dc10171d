"""The client of Prometheus' HTTP API. Every function raises TransientError where Prometheus does not answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from orderflow.errors import TransientError
from orderflow.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_TIMEOUT_SECONDS: Final = 10.0
_NOT_PROMETHEUS: Final = "the response from PROMETHEUS_URL is not that of Prometheus"


@dataclass(frozen=True, slots=True)
class Series:
    """samples are (seconds since the epoch, value), from the earliest to the latest."""

    labels: Mapping[str, str]
    samples: list[tuple[float, float]]


def total(url: str, query: str, at: datetime) -> float:
    """The value of an instant query that gives one sample, or none, which is 0. url is the address of Prometheus."""
    samples = _result(url, "query", {"query": query, "time": at.timestamp()})
    try:
        return float(samples[0]["value"][1]) if samples else 0.0
    except (ValueError, KeyError, TypeError, IndexError):
        raise TransientError(_NOT_PROMETHEUS) from None


def over_time(url: str, query: str, start: datetime, end: datetime, step_seconds: float) -> list[Series]:
    """The series of a range query."""
    arguments = {"query": query, "start": start.timestamp(), "end": end.timestamp(), "step": step_seconds}
    try:
        return [
            Series(series["metric"], [(float(at), float(value)) for at, value in series["values"]])
            for series in _result(url, "query_range", arguments)
        ]
    except (ValueError, KeyError, TypeError):
        raise TransientError(_NOT_PROMETHEUS) from None


def _result(url: str, kind: str, arguments: Mapping[str, object]) -> list[dict[str, Any]]:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": user_agent("orderflow"),
    }
    data = urlencode(arguments).encode()
    request = Request(f"{url.rstrip('/')}/api/v1/{kind}", data=data, headers=headers)  # noqa: S310 - a setting
    try:
        with urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the same
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return result
    except HTTPError as error:
        raise TransientError(f"Prometheus answered {error.code}") from None
    except OSError:
        raise TransientError("Prometheus cannot be reached at PROMETHEUS_URL") from None
    except (ValueError, KeyError, TypeError):
        raise TransientError(_NOT_PROMETHEUS) from None
