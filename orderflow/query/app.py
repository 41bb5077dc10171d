"""The Flask application: its parts, its authentication and the headers of every response."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from flask_bootstrap import Bootstrap5

from orderflow.adapters.http import api_keys
from orderflow.errors import TransientError
from orderflow.query import error_handlers, formats, labels, requests
from orderflow.query.api import actions as actions_api
from orderflow.query.api import contracts as contracts_api
from orderflow.query.api import reads as reads_api
from orderflow.query.api import release_shadow as release_shadow_api
from orderflow.query.api import releases as releases_api
from orderflow.query.api import repairs as repairs_api
from orderflow.query.api import rollouts as rollouts_api
from orderflow.query.authentication import ASSETS, Clients
from orderflow.query.cached_value import CachedValue
from orderflow.query.html import forms, pages, theme
from orderflow.query.html import rollouts as rollout_pages
from orderflow.query.query_answers import QueryAnswers
from orderflow.query.release_judgement import ReleaseJudge

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response as AnyResponse

    from orderflow.actions.repair import RevisionRepairs
    from orderflow.actions.service import OperatorActions
    from orderflow.adapters.http.api_keys import ApiKeys
    from orderflow.query.api.contracts import Documents
    from orderflow.query.clients.announced_changes import AnnouncedChanges
    from orderflow.query.clients.queue_proxies import QueueProxies
    from orderflow.query.clients.rollouts import Rollouts
    from orderflow.query.server_sent_events import EventStreams
    from orderflow.query.shadow.comparison import Shadow
    from orderflow.query.store.reader import Reader
    from orderflow.settings import LoginSettings

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # An address may contain what an operator searched for. `no-referrer` would make the Origin of forms `null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_ASSET_SECONDS: Final = 3600
_FIRST_ERROR: Final = 400


def create_app(
    reader: Reader,
    keys: ApiKeys,
    streams: EventStreams,
    actions: OperatorActions,
    contracts: Documents,
    audit_url: str | None = None,
    rollouts: Rollouts | None = None,
    login: LoginSettings | None = None,
    shadow: Shadow | None = None,
    repairs: RevisionRepairs | None = None,
    revision_url: str | None = None,
    proxies: QueueProxies | None = None,
    announced: AnnouncedChanges | None = None,
) -> Flask:
    """contracts: returns the documents under /contracts. audit_url: the audit's Service, None where no audit can be
    run. rollouts: the cluster's releases, None where query has no cluster. login: None where nobody logs in.
    shadow: compares the judgements of revisions, None where it cannot. repairs: None where what a revision did cannot
    be undone from here. revision_url: see QueryAnswers. proxies: what saw the
    answers of the revisions, None where query has no Prometheus. announced: looks for
    status events, None where query has no Kafka."""
    judge = ReleaseJudge(reader, proxies, announced)
    app = _new_app()
    app.register_blueprint(reads_api.blueprint(reader))
    app.register_blueprint(releases_api.blueprint(judge))
    app.register_blueprint(release_shadow_api.blueprint(shadow, QueryAnswers(reader, revision_url)))
    app.register_blueprint(actions_api.blueprint(actions, reader, audit_url))
    if repairs is not None:
        app.register_blueprint(repairs_api.blueprint(repairs, rollouts, reader))
    app.register_blueprint(contracts_api.blueprint(contracts))
    app.register_blueprint(forms.blueprint(actions, reader))
    releases_waiting = None
    if rollouts is not None:
        all_rollouts = CachedValue(rollouts.all, seconds=1)
        app.register_blueprint(rollouts_api.blueprint(rollouts, all_rollouts, judge))
        app.register_blueprint(rollout_pages.blueprint(rollouts, all_rollouts, judge, streams, app.jinja_env))
        releases_waiting = CachedValue(_releases_waiting(rollouts), seconds=1).get
    app.jinja_env.globals["with_rollouts"] = rollouts is not None
    app.register_blueprint(pages.blueprint(reader, streams, app.jinja_env, releases_waiting))
    _serve_dark_colours(app)
    _authenticate(app, _clients(app, keys, login))
    app.after_request(_add_headers)
    error_handlers.register(app)
    return app


def _new_app() -> Flask:
    # Not under /static: the Functions Framework's own application, which calls this one, serves that path itself.
    app = Flask("orderflow.query.html", static_url_path="/assets")
    app.config.update(
        BOOTSTRAP_SERVE_LOCAL=True, SEND_FILE_MAX_AGE_DEFAULT=_ASSET_SECONDS, MAX_CONTENT_LENGTH=0
    )
    app.json = _Json(app)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    Bootstrap5(app)
    formats.register(app.jinja_env)
    app.jinja_env.filters["severity"] = labels.severity
    app.jinja_env.filters["rollout_verb"] = labels.ROLLOUT_VERBS.__getitem__
    app.jinja_env.globals["labels"] = labels
    app.jinja_env.globals["refusal"] = requests.refusal
    return app


class _Json(DefaultJSONProvider):
    sort_keys = False
    ensure_ascii = False

    @staticmethod
    def default(value: object) -> object:
        if isinstance(value, datetime):
            return formats.rfc3339(value)
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        raise TypeError(type(value).__name__)


def _releases_waiting(rollouts: Rollouts) -> Callable[[], int | None]:
    """How many releases need attention, None where the cluster does not answer. As a CachedValue, the start page does
    not wait for an unreachable cluster again and again."""

    def count() -> int | None:
        try:
            return sum(rollout.needs_attention for rollout in rollouts.all())
        except TransientError:
            return None

    return count


def _serve_dark_colours(app: Flask) -> None:
    rules = theme.dark_rules(theme.BOOTSTRAP.read_text())

    @app.get("/assets/dark.css", endpoint="dark_css")
    def dark_css() -> Response:
        return Response(rules, mimetype="text/css")


def _clients(app: Flask, keys: ApiKeys, login: LoginSettings | None) -> Clients:
    if login is None:
        return Clients(keys)
    from orderflow.query.login import routes, session  # with Authlib, which takes most of a second

    app.register_blueprint(routes.blueprint(app, login, keys.names))
    return Clients(keys, session.current)


def _authenticate(app: Flask, clients: Clients) -> None:
    @app.before_request
    def authenticate() -> Response | AnyResponse | None:
        client = clients.identify()
        if client is None:
            return None if clients.may_be_unknown() else clients.unauthorised()
        g.principal = client
        g.operator = requests.operator_name(client, local=client is api_keys.LOCAL)
        if "\x00" in request.path:  # PostgreSQL would refuse the character as a parameter
            return error_handlers.failure(404, "not_found", error_handlers.NOT_FOUND)
        if not clients.may_be_unknown():
            requests.require("read")
        return None

    @app.context_processor
    def client_of_page() -> dict[str, Any]:
        client = g.get("principal")
        return {"client": client, "finds_people": client is not None and client.may("reveal")}


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint in ASSETS and response.status_code < _FIRST_ERROR:
        response.headers["Cache-Control"] = f"private, max-age={_ASSET_SECONDS}"
    else:
        response.headers["Cache-Control"] = "no-store"
    return response
