"""The Flask application: who may in, what every answer carries, and how errors are told."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from flask import Flask, Response, g, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask_bootstrap import Bootstrap5
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from orderflow import logs
from orderflow.adapters.http import api_keys, problems
from orderflow.errors import ConflictError, ForbiddenError, PoisonError, UnavailableError, UnknownError
from orderflow.query import labels, requests
from orderflow.query.api import actions, contracts, reads
from orderflow.query.api import releases as judged
from orderflow.query.html import forms, pages, theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.actions.service import OperatorActions
    from orderflow.adapters.http.api_keys import Door
    from orderflow.errors import Reason
    from orderflow.query.clients.rollouts import Rollouts
    from orderflow.query.server_sent_events import Streams
    from orderflow.query.store.action_results import DeskReader

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Addresses hold what an operator searched for, and a form's Origin must not become null.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_TITLES: Final = {
    404: "There is nothing under this address",
    405: "This can only be read",
    413: "This is too large",
    415: "This takes application/json",
}
_FOR_PROGRAMS: Final = ("/api/", "/contracts", "/metrics", "/openapi.json")
_ASSET_SECONDS: Final = 3600
_ASSETS: Final = frozenset({"static", "bootstrap.static", "dark_css"})


class _Json(DefaultJSONProvider):
    sort_keys = False
    ensure_ascii = False

    @staticmethod
    def default(value: object) -> object:
        if isinstance(value, datetime):
            return labels.instant(value)
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        raise TypeError(type(value).__name__)


def create_app(
    reader: DeskReader,
    guard: Door,
    streams: Streams,
    desk: OperatorActions,
    audit_url: str | None = None,
    releases: Rollouts | None = None,
) -> Flask:
    """releases: those of a cluster; None where there is none to ask."""
    # Not under /static: the framework's own application, which hands us the rest, looks there itself.
    app = Flask(
        "orderflow.query", static_url_path="/assets", static_folder="static", template_folder="templates"
    )
    app.config.update(
        BOOTSTRAP_SERVE_LOCAL=True, SEND_FILE_MAX_AGE_DEFAULT=_ASSET_SECONDS, MAX_CONTENT_LENGTH=0
    )
    app.json = _Json(app)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    Bootstrap5(app)
    for name in (
        "tone",
        "instant",
        "clock",
        "ago",
        "span",
        "event_name",
        "lapse",
        "sentence",
        "per_second",
        "money",
        "bars",
    ):
        app.jinja_env.filters[name] = getattr(labels, name)
    app.jinja_env.globals["words"] = labels
    app.register_blueprint(reads.blueprint(reader))
    app.register_blueprint(judged.blueprint(reader))
    app.register_blueprint(actions.blueprint(desk, reader, audit_url))
    app.register_blueprint(contracts.blueprint())
    app.register_blueprint(forms.blueprint(desk, reader))
    waiting = None
    if releases is not None:
        from orderflow.query.html import rollouts  # knrollout need not be there

        waiting = rollouts.waiting(releases)
        app.register_blueprint(rollouts.blueprint(releases, reader, streams, app.jinja_env))
    app.jinja_env.globals["with_rollouts"] = releases is not None
    app.register_blueprint(pages.blueprint(reader, streams, app.jinja_env, waiting))
    dark = theme.dark_rules(theme.BOOTSTRAP.read_text())

    @app.get("/assets/dark.css", endpoint="dark_css")
    def dark_css() -> Response:
        return Response(dark, mimetype="text/css")

    @app.before_request
    def ask_for_a_key() -> Response | None:
        client = guard.authenticate({name.lower(): value for name, value in request.headers.items()})
        if client is None:
            answer = _failure(401, "unauthorised", "An API key for query is needed")
            answer.headers["WWW-Authenticate"] = api_keys.CHALLENGE
            return answer
        g.client, g.may_act = client.name, client.act
        g.operator = requests.operator(client, local=client is api_keys.LOCAL)
        if "\x00" in request.path:  # no address of ours, and PostgreSQL would not even take it as a question
            return _failure(404, "not_found", _TITLES[404])
        return None

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint in _ASSETS and response.status_code < 400:  # noqa: PLR2004 - any error
            response.headers["Cache-Control"] = f"private, max-age={_ASSET_SECONDS}"
        else:
            response.headers["Cache-Control"] = "no-store"
        return response

    app.register_error_handler(PoisonError, _bad_request)
    app.register_error_handler(UnavailableError, _unavailable)
    app.register_error_handler(UnknownError, _unknown)
    app.register_error_handler(ForbiddenError, _forbidden)
    app.register_error_handler(ConflictError, _conflict)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _failure(status: int, code: str, title: str, reasons: Sequence[Reason] = ()) -> Response:
    """An error as the asker reads it: problem+json for a program, a page for a person."""
    if request.path.startswith(_FOR_PROGRAMS) or not request.accept_mimetypes.accept_html:
        body = json.dumps(problems.document(status, code, title, reasons))
        return Response(body, status, mimetype=problems.CONTENT_TYPE)
    return Response(render_template("problem.html", status=status, title=title, reasons=reasons), status)


def _bad_request(error: PoisonError) -> Response:
    return _failure(400, "bad_request", "This cannot be asked for", error.reasons)


def _unavailable(error: UnavailableError) -> Response:
    log.warning("not now", extra={"endpoint": request.endpoint, "cause": str(error)})
    response = _failure(503, "unavailable", labels.sentence(str(error)))
    response.headers["Retry-After"] = str(problems.RETRY_SECONDS)
    return response


def _unknown(error: UnknownError) -> Response:
    return _failure(404, "not_found", labels.sentence(str(error)))


def _forbidden(error: ForbiddenError) -> Response:
    return _failure(403, error.code, str(error))


def _conflict(error: ConflictError) -> Response:
    return _failure(409, "conflict", labels.sentence(str(error)))


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:  # noqa: PLR2004 - a redirect is no failure
        return Response(response=error.get_response().get_data(), status=status, headers=error.get_headers())
    code = error.name.lower().replace(" ", "_")
    if not isinstance(error, MethodNotAllowed):
        return _failure(status, code, _TITLES.get(status, error.name))
    allowed = sorted(error.valid_methods or ("GET", "HEAD", "OPTIONS"))
    response = _failure(status, code, _TITLES[405] if "GET" in allowed else "This is done with POST")
    response.headers["Allow"] = ", ".join(allowed)
    return response


def _unexpected(error: Exception) -> Response:
    extra = {"endpoint": request.endpoint, "error": type(error).__name__, "where": logs.location(error)}
    log.error("unexpected", extra=extra)
    return _failure(500, "internal_error", "This failed; the log says where")
