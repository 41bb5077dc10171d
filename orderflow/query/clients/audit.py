"""Asking the audit's Service for a run."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from orderflow.errors import ConflictError, UnavailableError
from orderflow.version import user_agent

_SECONDS: Final = 300.0


def run(url: str) -> Any:  # noqa: ANN401 - a report is the audit's own JSON
    """The report of an audit that runs now. Raises ConflictError where another is under way, UnavailableError where
    there is none to be had."""
    headers = {"Content-Type": "application/json", "User-Agent": user_agent("orderflow")}
    asked = Request(url, data=b"{}", headers=headers)  # noqa: S310 - a setting of ours
    try:
        with urlopen(asked, timeout=_SECONDS) as answer:  # noqa: S310 - the same
            return json.load(answer)
    except HTTPError as error:
        if error.code == HTTPStatus.CONFLICT:
            raise ConflictError("another run of the audit is under way") from None
        raise UnavailableError(f"the audit answered {error.code}; its log says why") from None
    except OSError:
        raise UnavailableError("the audit cannot be reached at AUDIT_URL") from None
    except ValueError:
        raise UnavailableError("what answers at AUDIT_URL is no audit") from None
