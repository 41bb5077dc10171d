"""Errors as responses: problem+json for programs, a page for people."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

from flask import Response, render_template, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from orderflow import logs
from orderflow.adapters.http import problems
from orderflow.errors import ConflictError, ForbiddenError, NotFoundError, PoisonError, TransientError
from orderflow.query.formats import sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Flask

    from orderflow.errors import Reason

log = logging.getLogger(__name__)

NOT_FOUND: Final = "There is nothing at this address or with this id"
_TITLES: Final = {
    404: NOT_FOUND,
    405: "This address can only be read",
    413: "The request is too large",
    415: "The body must be application/json",
}
_FOR_PROGRAMS: Final = ("/api/", "/contracts", "/metrics", "/openapi.json")
_FIRST_ERROR: Final = 400


def register(app: Flask) -> None:
    app.register_error_handler(PoisonError, _bad_request)
    app.register_error_handler(TransientError, _unavailable)
    app.register_error_handler(NotFoundError, _not_found)
    app.register_error_handler(ForbiddenError, _forbidden)
    app.register_error_handler(ConflictError, _conflict)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def is_for_programs() -> bool:
    return request.path.startswith(_FOR_PROGRAMS)


def failure(status: int, code: str, title: str, reasons: Sequence[Reason] = ()) -> Response:
    if is_for_programs() or not request.accept_mimetypes.accept_html:
        body = json.dumps(problems.document(status, code, title, reasons))
        return Response(body, status, mimetype=problems.CONTENT_TYPE)
    return Response(
        render_template("problem.html", status=status, code=code, title=title, reasons=reasons), status
    )


def _bad_request(error: PoisonError) -> Response:
    return failure(400, "bad_request", "The request is invalid", error.reasons)


def _unavailable(error: TransientError) -> Response:
    log.warning("unavailable", extra={"endpoint": request.endpoint, "cause": str(error)})
    response = failure(503, "unavailable", sentence(str(error)))
    response.headers["Retry-After"] = str(problems.RETRY_SECONDS)
    return response


def _not_found(error: NotFoundError) -> Response:
    return failure(404, "not_found", sentence(str(error)))


def _forbidden(error: ForbiddenError) -> Response:
    return failure(403, error.code, str(error))


def _conflict(error: ConflictError) -> Response:
    return failure(409, "conflict", sentence(str(error)))


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < _FIRST_ERROR:  # Flask raises a redirect as an exception too
        return Response(response=error.get_response().get_data(), status=status, headers=error.get_headers())
    code = error.name.lower().replace(" ", "_")
    if not isinstance(error, MethodNotAllowed):
        return failure(status, code, _TITLES.get(status, error.name))
    allowed = sorted(error.valid_methods or ("GET", "HEAD", "OPTIONS"))
    response = failure(status, code, _TITLES[405] if "GET" in allowed else "This address takes only POST")
    response.headers["Allow"] = ", ".join(allowed)
    return response


def _unexpected(error: Exception) -> Response:
    extra = {"endpoint": request.endpoint, "error": type(error).__name__, "where": logs.location(error)}
    log.error("unexpected error", extra=extra)
    return failure(500, "internal_error", "The request failed; the log says where")
