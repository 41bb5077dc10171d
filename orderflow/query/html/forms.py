"""The pages on which operators act. Each page says what the action does and asks once; the next page has the result.
The pages work without a script: a GET is the question, the form's POST the action."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from flask import Blueprint, Response, abort, redirect, render_template, request

from orderflow.actions import resend
from orderflow.actions.service import Selection
from orderflow.domain.events import parse
from orderflow.errors import PoisonError, Reason
from orderflow.query import labels, masking, requests
from orderflow.query.formats import sentence
from orderflow.query.requests import action_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response as AnyResponse

    from orderflow.actions.service import OperatorActions, Receipt
    from orderflow.query.store.reader import Reader

OUTCOME_SECONDS: Final = 3.0
"""How long the response waits for the outcome, so that the result page seldom has to say that there is none yet."""
STALE_SECONDS: Final = 60.0
"""How long the result page reloads itself; an older action without an outcome is shown as it is."""
_POLL_SECONDS: Final = 0.1
_ORDER_VERBS: Final = "hold, release, cancel"


def blueprint(actions: OperatorActions, reader: Reader) -> Blueprint:
    forms = _Forms(actions, reader)
    routes = Blueprint("forms", "orderflow.query.html.forms")
    routes.before_request(_check)
    for path, view in (
        (f"/orders/<order_id>/<any({_ORDER_VERBS}):verb>", forms.order),
        ("/parked/replay", forms.replay_many),
        ("/parked/<parked_id>/replay", forms.replay),
        ("/parked/<parked_id>/discard", forms.discard),
        ("/parked/<parked_id>/edit", forms.edit),
    ):
        routes.route(path, methods=["GET", "POST"])(view)
    routes.get("/actions/<request_id>")(forms.result)
    return routes


def _check() -> None:
    if request.method == "POST":
        editing = request.path.endswith("/edit")
        requests.limit_body(requests.MAX_EDITED_BYTES if editing else requests.MAX_BODY_BYTES)
        requests.check_may("act", page=True)
    elif request.endpoint != "forms.result":
        requests.require("act")


def _reason(*, required: bool) -> str | None:
    """The operator's reason from the form. Raises PoisonError where it is required and missing, or invalid."""
    text = request.form.get("reason", "").strip()
    body = json.dumps({"reason": text} if text else {}).encode()
    if required:
        return parse(requests.RequiredReason, body).reason
    return parse(requests.OptionalReason, body).reason


class _Forms:
    def __init__(self, actions: OperatorActions, reader: Reader) -> None:
        self._actions = actions
        self._reader = reader

    def order(self, order_id: str, verb: str) -> str | AnyResponse:
        record = self._reader.order(order_id)
        if record is None:
            abort(404)
        return self._ask_or_act(
            lambda: self._actions.order(verb, order_id, action_request(_reason(required=True))),
            title=f"{sentence(verb)} order {order_id}?",
            consequences=labels.CONSEQUENCES[verb],
            button=f"{sentence(verb)} the order",  # "Cancel" alone would read as "do nothing"
            back=f"/orders/{order_id}",
            reason_required=True,
            order=record.summary,
        )

    def replay(self, parked_id: str) -> str | AnyResponse:
        self._actions.parked_event(parked_id)
        return self._replay(Selection(ids=(parked_id,)), f"/parked/{parked_id}", "Replay this event?")

    def replay_many(self) -> str | AnyResponse:
        ids = request.values.getlist("id")
        if not ids:
            raise PoisonError(Reason("missing", "id", "nothing was selected; go back and select some events"))
        selection = parse(Selection, json.dumps({"ids": ids}).encode())
        return self._replay(selection, "/parked?state=open", "Replay the selected events?")

    def _replay(self, selection: Selection, back: str, title: str) -> str | AnyResponse:
        plan = self._actions.replay(selection, action_request(None), dry_run=True)
        return self._ask_or_act(
            lambda: self._actions.replay(selection, action_request(_reason(required=False))),
            title=title,
            consequences=labels.CONSEQUENCES["replay"],
            button="Replay" if len(plan.taken) == 1 else f"Replay {len(plan.taken)} events",
            back=back,
            reason_required=False,
            plan=masking.masked_receipt(plan),
            ids=selection.ids,
        )

    def discard(self, parked_id: str) -> str | AnyResponse:
        parked = self._actions.parked_event(parked_id)
        return self._ask_or_act(
            lambda: self._actions.discard(parked_id, action_request(_reason(required=True))),
            title="Discard this event?",
            consequences=labels.CONSEQUENCES["discard"],
            button="Discard",
            back=f"/parked/{parked_id}",
            reason_required=True,
            parked=replace(parked, attributes=masking.attributes(parked.attributes)),
        )

    def edit(self, parked_id: str) -> str | AnyResponse:
        requests.require("reveal")
        parked = self._actions.parked_event(parked_id)
        document = resend.document(parked)
        if request.method == "GET":
            requests.log_personal_data_shown(parked_id)
        text = request.form.get("event", "") or json.dumps(document, indent=2, ensure_ascii=False)

        def send() -> Receipt:
            edited = _parse_object(text)
            if edited == document:
                raise PoisonError(Reason("unchanged", "event", "nothing was changed; replay it instead"))
            return self._actions.edit(parked_id, {}, edited, action_request(_reason(required=False)))

        return self._ask_or_act(
            send,
            title="Edit this event?",
            consequences=labels.CONSEQUENCES["edit"],
            button="Send the edited event",
            back=f"/parked/{parked_id}",
            reason_required=False,
            parked=parked,
            text=text,
        )

    def _ask_or_act(self, act: Callable[[], Receipt], **values: Any) -> str | AnyResponse:  # noqa: ANN401 - of the template
        """Without a key, renders the question with a new key. With the key, acts and redirects to the result; where the
        form is invalid, renders the question again with the reasons."""
        key = request.form.get("key")
        if not key:
            return render_template("ask.html", key=uuid4(), **values)
        try:
            receipt = act()
        except PoisonError as error:
            return Response(render_template("ask.html", key=key, reasons=error.reasons, **values), 400)
        self._wait_for_outcome(receipt)
        return redirect(f"/actions/{receipt.request}", 303)

    def _wait_for_outcome(self, receipt: Receipt) -> None:
        deadline = time.monotonic() + OUTCOME_SECONDS
        while time.monotonic() < deadline:
            results = self._reader.results_of_request(receipt.request)
            if len(results) >= len(receipt.taken) and all(
                labels.outcome_of(result)[0] != "under way" for result in results
            ):
                return
            time.sleep(_POLL_SECONDS)

    def result(self, request_id: str) -> str:
        results = self._reader.results_of_request(request_id)
        rows = [(result, *labels.outcome_of(result)) for result in results]
        stale = datetime.now(UTC) - timedelta(seconds=STALE_SECONDS)
        pending = not results or any(
            outcome == "under way" and result.recorded_at > stale for result, outcome, _ in rows
        )
        return render_template("result.html", rows=rows, pending=pending)


def _parse_object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise PoisonError(Reason("json_invalid", "event", "this is not JSON")) from None
    if not isinstance(document, dict):
        raise PoisonError(Reason("json_invalid", "event", "this is not a JSON object"))
    return document
