"""Releases on their way, beside the orders that they affect: pages, their streams, what is asked for, and the API.

Only where query has a cluster to ask; without one there is no such address.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, g, jsonify, redirect, render_template, request

from orderflow.adapters.releases import STAGES
from orderflow.adapters.rollouts import mark
from orderflow.console import asking, words
from orderflow.console.live import Kept
from orderflow.domain.releases import Terms, compare, overall
from orderflow.errors import ConflictError, UnavailableError

if TYPE_CHECKING:
    from jinja2 import Environment
    from werkzeug.wrappers import Response as AnyResponse

    from knrollout.cluster.view import RolloutSummary, RolloutView
    from orderflow.adapters.reading import Reader
    from orderflow.adapters.rollouts import Rollouts
    from orderflow.console.live import Streams
    from orderflow.console.records import OrderSummary
    from orderflow.domain.releases import Compared, Verdict

HOURS: Final = 24
MOST_ORDERS: Final = 10
_VERBS: Final = 'promote, "promote-full", pause, retry, abort'
_KEPT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Affected:
    """What became of orders at the canary, against stable; and the orders that the canary had to do with."""

    verdict: Verdict
    outcomes: list[Compared]
    orders: list[OrderSummary]


def blueprint(rollouts: Rollouts, reader: Reader, streams: Streams, templates: Environment) -> Blueprint:
    pages = _Pages(rollouts, reader, streams, templates)
    routes = Blueprint("rollouts", "orderflow.console.rollouts")
    routes.before_request(_guard)
    routes.get("/rollouts")(pages.list_all)
    routes.get("/rollouts/live")(pages.list_live)
    routes.get("/rollouts/<name>")(pages.show)
    routes.get("/rollouts/<name>/live")(pages.show_live)
    routes.route(f"/rollouts/<name>/<any({_VERBS}):verb>", methods=["GET", "POST"])(pages.ask)
    routes.get("/api/rollouts")(pages.api_list)
    routes.get("/api/rollouts/<name>")(pages.api_show)
    return routes


def _guard() -> None:
    if request.method == "POST":
        request.max_content_length = request.max_form_memory_size = asking.MOST_BODY
        asking.guard(page=True)
    elif request.endpoint == "rollouts.ask" and not g.may_act:
        asking.guard(page=True)


def waiting(rollouts: Rollouts) -> Kept[int | None]:
    """How many releases wait for a person; None where the cluster does not say. That it does not is kept for ten times
    as long as it took to find out, so that the start page does not wait for it again and again."""

    def count() -> int | None:
        try:
            return sum(one.needs_attention for one in rollouts.all())
        except UnavailableError:
            return None

    return Kept(count, seconds=_KEPT_SECONDS)


class _Pages:
    def __init__(self, rollouts: Rollouts, reader: Reader, streams: Streams, templates: Environment) -> None:
        self._rollouts = rollouts
        self._reader = reader
        self._streams = streams
        self._templates = templates
        self._all = Kept(rollouts.all, seconds=_KEPT_SECONDS)

    def list_all(self) -> str:
        return render_template("rollouts.html", **self._listed())

    def list_live(self) -> Response:
        part = self._templates.get_template("_rollouts.html")
        return self._streams.response(lambda: {"rollouts": part.render(self._listed())})

    def show(self, name: str) -> str:
        return render_template("rollout.html", **self._shown(self._rollouts.one(name), may_act=g.may_act))

    def show_live(self, name: str) -> Response:
        part, may_act = self._templates.get_template("_rollout.html"), bool(g.may_act)
        self._rollouts.one(name)
        return self._streams.response(
            lambda: {"rollout": part.render(self._shown(self._rollouts.one(name), may_act=may_act))}
        )

    def ask(self, name: str, verb: str) -> str | AnyResponse:
        """Without a confirmation it is the question. What is done is what was confirmed, or nothing."""
        confirmed = request.form.get("confirmed")
        if confirmed is not None:
            self._rollouts.ask(name, verb, g.operator, confirmed)
            return redirect(f"/rollouts/{name}", 303)
        shown = self._rollouts.one(name)
        ask = shown.commands.get(verb)
        if ask is None:
            raise ConflictError("this cannot be asked for now: the release is no longer where it was")
        return render_template(
            "ask_rollout.html",
            rollout=shown,
            verb=words.ROLLOUT_VERBS[verb],
            will=words.ROLLOUT_WILL[verb],
            ask=ask,
            confirmed=mark(ask),
        )

    def api_list(self) -> Response:
        return jsonify({"rollouts": [_brief(one) for one in self._all.get()]})

    def api_show(self, name: str) -> Response:
        shown = self._rollouts.one(name)
        affected = self._affected(shown)
        verdict = affected.verdict if affected is not None else None
        outcomes = affected.outcomes if affected is not None else []
        return jsonify(_whole(shown) | {"verdict": verdict, "outcomes": outcomes})

    def _listed(self) -> dict[str, Any]:
        first = sorted(self._all.get(), key=lambda one: not one.needs_attention)
        return {"rollouts": first, "now": datetime.now(UTC)}

    def _shown(self, shown: RolloutView, *, may_act: bool) -> dict[str, Any]:
        return {
            "rollout": shown,
            "affected": self._affected(shown),
            "may_act": may_act,
            "now": datetime.now(UTC),
        }

    def _affected(self, shown: RolloutView) -> Affected | None:
        """Of a release on its way, or one that was aborted; only stages that decide about orders have any."""
        status, stage = shown.status, shown.service
        canary, stable = status.canary_revision, status.stable_revision
        if stage not in STAGES or canary is None or stable is None or canary == stable:
            return None
        evidence = self._reader.release(stage, canary, stable, HOURS)
        outcomes = compare(evidence.outcomes, Terms())
        return Affected(overall(outcomes), outcomes, self._reader.met(stage, canary, HOURS, MOST_ORDERS))


def _brief(one: RolloutSummary) -> dict[str, Any]:
    return {
        "name": one.name,
        "service": one.service,
        "step": one.step,
        "steps": one.steps,
        "status": one.status.model_dump(mode="json", by_alias=True, exclude_none=True),
        "href": f"/api/rollouts/{one.name}",
    }


def _whole(shown: RolloutView) -> dict[str, Any]:
    return {
        "name": shown.name,
        "service": shown.service,
        "status": shown.status.model_dump(mode="json", by_alias=True, exclude_none=True),
        "steps": shown.steps,
        "analysed_beside": shown.background_templates,
        "revisions": shown.revisions,
        "asks": {verb: command.description for verb, command in shown.commands.items()},
    }
