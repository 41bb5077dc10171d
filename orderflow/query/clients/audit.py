"""The client of the audit's Service."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from orderflow.errors import ConflictError, TransientError
from orderflow.version import user_agent

_TIMEOUT_SECONDS: Final = 300.0
_MAX_PROBLEM_BYTES: Final = 10_000


def run(url: str) -> Any:  # noqa: ANN401 - the audit's own JSON
    """Runs the audit and returns its report.

    Raises ConflictError where another run is in progress, TransientError where the audit cannot be run.
    """
    headers = {"Content-Type": "application/json", "User-Agent": user_agent("orderflow")}
    request = Request(url, data=b"{}", headers=headers)  # noqa: S310 - the address is a setting
    try:
        with urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the same
            return json.load(response)
    except HTTPError as error:
        if error.code == HTTPStatus.CONFLICT:
            raise ConflictError("another run of the audit is in progress") from None
        raise TransientError(f"the audit answered {error.code}: {_cause(error)}") from None
    except OSError:
        raise TransientError("the audit cannot be reached at AUDIT_URL") from None
    except ValueError:
        raise TransientError("the response from AUDIT_URL is not JSON; is it the audit?") from None


def _cause(error: HTTPError) -> str:
    """The title of the audit's problem document."""
    try:
        problem = json.loads(error.read(_MAX_PROBLEM_BYTES))
    except (OSError, ValueError):
        problem = None
    title = problem.get("title") if isinstance(problem, dict) else None
    return title if isinstance(title, str) else "its log says why"
