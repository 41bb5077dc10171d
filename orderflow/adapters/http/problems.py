"""Errors over HTTP as RFC 9457 problem+json. A problem names every faulty field and quotes no value of the request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.errors import Reason

CONTENT_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 2


def document(status: int, code: str, title: str, reasons: Sequence[Reason] = ()) -> dict[str, object]:
    """A problem's members: `code` for machines, `title` for people, `errors` with each reason's code, field, text."""
    body: dict[str, object] = {
        "type": f"urn:orderflow:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
    }
    if reasons:
        body["errors"] = [
            {"code": reason.code, "field": reason.field, "text": reason.text} for reason in reasons
        ]
    return body


def problem(
    status: int,
    code: str,
    title: str,
    reasons: Sequence[Reason] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(json.dumps(document(status, code, title, reasons)), status, headers, CONTENT_TYPE)


def unavailable(title: str) -> Response:
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return problem(503, "unavailable", title, headers=headers)
