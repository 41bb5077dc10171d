"""The pages of releases in progress and of the orders that they affect; only where query has a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, g, redirect, render_template, request

from orderflow.errors import ConflictError
from orderflow.query import labels, requests
from orderflow.query.release_impact import release_impact

if TYPE_CHECKING:
    from jinja2 import Environment
    from werkzeug.wrappers import Response as AnyResponse

    from knrollout.cluster.view import RolloutSummary, RolloutView
    from orderflow.adapters.http.api_keys import Principal
    from orderflow.query.cached_value import CachedValue
    from orderflow.query.clients.rollouts import Rollouts
    from orderflow.query.release_judgement import ReleaseJudge
    from orderflow.query.server_sent_events import EventStreams

_VERBS: Final = 'promote, "promote-full", pause, retry, abort'


def blueprint(
    rollouts: Rollouts,
    all_rollouts: CachedValue[list[RolloutSummary]],
    judge: ReleaseJudge,
    streams: EventStreams,
    templates: Environment,
) -> Blueprint:
    pages = _Pages(rollouts, all_rollouts, judge, streams, templates)
    routes = Blueprint("rollouts", "orderflow.query.html.rollouts")
    routes.before_request(_check)
    routes.get("/rollouts")(pages.listing)
    routes.get("/rollouts/live")(pages.listing_live)
    routes.get("/rollouts/<name>")(pages.rollout)
    routes.get("/rollouts/<name>/live")(pages.rollout_live)
    routes.route(f"/rollouts/<name>/<any({_VERBS}):verb>", methods=["GET", "POST"])(pages.ask)
    return routes


def _check() -> None:
    if request.method == "POST":
        requests.limit_body(requests.MAX_BODY_BYTES)
        requests.check_may("release", page=True)
    elif request.endpoint == "rollouts.ask":
        requests.require("release")


class _Pages:
    def __init__(
        self,
        rollouts: Rollouts,
        all_rollouts: CachedValue[list[RolloutSummary]],
        judge: ReleaseJudge,
        streams: EventStreams,
        templates: Environment,
    ) -> None:
        self._rollouts = rollouts
        self._all = all_rollouts
        self._judge = judge
        self._streams = streams
        self._templates = templates

    def listing(self) -> str:
        return render_template("rollouts.html", **self._listing_values())

    def listing_live(self) -> Response:
        part = self._templates.get_template("_rollouts.html")
        return self._streams.response(lambda: {"rollouts": part.render(self._listing_values())})

    def rollout(self, name: str) -> str:
        return render_template("rollout.html", **self._rollout_values(name, g.principal))

    def rollout_live(self, name: str) -> Response:
        part, client = self._templates.get_template("_rollout.html"), g.principal
        self._rollouts.one(name)
        return self._streams.response(lambda: {"rollout": part.render(self._rollout_values(name, client))})

    def ask(self, name: str, verb: str) -> str | AnyResponse:
        """The question, or with its confirmation the command: exactly what was confirmed, or nothing."""
        confirmed = request.form.get("confirmed")
        if confirmed is not None:
            self._rollouts.send(name, verb, g.operator, confirmed)
            return redirect(f"/rollouts/{name}", 303)
        rollout = self._rollouts.one(name)
        command = rollout.commands.get(verb)
        if command is None:
            raise ConflictError("this is not possible now: the release is no longer where it was")
        return render_template(
            "ask_rollout.html",
            rollout=rollout,
            verb=labels.ROLLOUT_VERBS[verb],
            consequences=labels.ROLLOUT_CONSEQUENCES[verb],
            command=command,
            confirmed=self._rollouts.confirmation(command),
        )

    def _listing_values(self) -> dict[str, Any]:
        urgent_first = sorted(self._all.get(), key=lambda rollout: not rollout.needs_attention)
        return {"rollouts": urgent_first, "now": datetime.now(UTC)}

    def _rollout_values(self, name: str, client: Principal) -> dict[str, Any]:
        rollout: RolloutView = self._rollouts.one(name)
        return {
            "rollout": rollout,
            "impact": release_impact(self._judge, rollout),
            "client": client,
            "now": datetime.now(UTC),
        }
