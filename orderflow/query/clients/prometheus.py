"""The client of Prometheus' HTTP API."""

from __future__ import annotations

import json
from typing import Final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from orderflow.errors import TransientError
from orderflow.version import user_agent

_TIMEOUT_SECONDS: Final = 10.0


def total(url: str, query: str) -> float:
    """The value of an instant query that gives one sample, or none, which is 0. url is the address of Prometheus.

    Raises TransientError where Prometheus does not answer the query.
    """
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": user_agent("orderflow"),
    }
    data = urlencode({"query": query}).encode()
    request = Request(f"{url.rstrip('/')}/api/v1/query", data=data, headers=headers)  # noqa: S310 - a setting
    try:
        with urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the same
            samples = json.load(response)["data"]["result"]
        return float(samples[0]["value"][1]) if samples else 0.0
    except HTTPError as error:
        raise TransientError(f"Prometheus answered {error.code}") from None
    except OSError:
        raise TransientError("Prometheus cannot be reached at PROMETHEUS_URL") from None
    except (ValueError, KeyError, TypeError, IndexError):
        raise TransientError("the response from PROMETHEUS_URL is not that of Prometheus") from None
