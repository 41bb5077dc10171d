"""The pages on which operators act: each says what it will do, asks once, and tells the result in words. They work
without a script: a form's page is the question, its button the answer."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from flask import Blueprint, Response, abort, g, redirect, render_template, request

from orderflow.actions import resend
from orderflow.actions.service import Selection
from orderflow.domain.events import parse
from orderflow.errors import PoisonError, Reason
from orderflow.query import labels, masking, requests
from orderflow.query.requests import asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response as AnyResponse

    from orderflow.actions.service import OperatorActions, Receipt
    from orderflow.query.store.action_results import DeskReader

OUTCOME_SECONDS: Final = 3.0
"""How long an answer waits for the outcome, so that a page rarely has to say that there is none yet."""
STALE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_ORDER_VERBS: Final = "hold, release, cancel"


def blueprint(desk: OperatorActions, reader: DeskReader) -> Blueprint:
    forms = _Forms(desk, reader)
    routes = Blueprint("forms", "orderflow.query.html.forms")
    routes.before_request(_guard)
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


def _guard() -> None:
    if request.method == "POST":
        editing = request.path.endswith("/edit")
        request.max_content_length = requests.MOST_EDITED if editing else requests.MOST_BODY
        request.max_form_memory_size = request.max_content_length
        requests.guard(page=True)
    elif request.endpoint != "forms.result" and not g.may_act:
        requests.guard(page=True)


def _why(*, needed: bool) -> str | None:
    """The reason that was typed. Raises PoisonError where it is missing or no such text."""
    text = request.form.get("reason", "").strip()
    body = json.dumps({"reason": text} if text else {}).encode()
    return parse(requests.MustSayWhy, body).reason if needed else parse(requests.Why, body).reason


class _Forms:
    def __init__(self, desk: OperatorActions, reader: DeskReader) -> None:
        self._desk = desk
        self._reader = reader

    def order(self, order_id: str, verb: str) -> str | AnyResponse:
        record = self._reader.order(order_id)
        if record is None:
            abort(404)
        return self._ask(
            lambda: self._desk.order(verb, order_id, asked(_why(needed=True))),
            title=f"{labels.sentence(verb)} order {order_id}?",
            will=labels.WILL[verb],
            button=f"{labels.sentence(verb)} the order",  # "Cancel" alone would read as "do nothing"
            back=f"/orders/{order_id}",
            reason_needed=True,
            order=record.summary,
        )

    def replay(self, parked_id: str) -> str | AnyResponse:
        self._desk.parked_event(parked_id)
        return self._replay(Selection(ids=(parked_id,)), f"/parked/{parked_id}", "Replay this event?")

    def replay_many(self) -> str | AnyResponse:
        ids = request.values.getlist("id")
        if not ids:
            raise PoisonError(Reason("missing", "id", "nothing was selected; go back and tick some events"))
        wanted = parse(Selection, json.dumps({"ids": ids}).encode())
        return self._replay(wanted, "/parked?state=open", "Replay the selected events?")

    def _replay(self, wanted: Selection, back: str, title: str) -> str | AnyResponse:
        plan = self._desk.replay(wanted, asked(None), dry_run=True)
        return self._ask(
            lambda: self._desk.replay(wanted, asked(_why(needed=False))),
            title=title,
            will=labels.WILL["replay"],
            button="Replay" if len(plan.taken) == 1 else f"Replay {len(plan.taken)} events",
            back=back,
            reason_needed=False,
            plan=masking.receipt(plan),
            ids=wanted.ids,
        )

    def discard(self, parked_id: str) -> str | AnyResponse:
        letter = self._desk.parked_event(parked_id)
        return self._ask(
            lambda: self._desk.discard(parked_id, asked(_why(needed=True))),
            title="Discard this event?",
            will=labels.WILL["discard"],
            button="Discard",
            back=f"/parked/{parked_id}",
            reason_needed=True,
            letter=replace(letter, attributes=masking.attributes(letter.attributes)),
        )

    def edit(self, parked_id: str) -> str | AnyResponse:
        letter = self._desk.parked_event(parked_id)
        document = resend.document(letter)
        if request.method == "GET":
            requests.note_revealed(parked_id)
        text = request.form.get("event", "") or json.dumps(document, indent=2, ensure_ascii=False)

        def send() -> Receipt:
            written = _json(text)
            if written == document:
                raise PoisonError(Reason("unchanged", "event", "nothing was changed; replay it instead"))
            return self._desk.edit(parked_id, {}, written, asked(_why(needed=False)))

        return self._ask(
            send,
            title="Edit this event?",
            will=labels.WILL["edit"],
            button="Send the edited event",
            back=f"/parked/{parked_id}",
            reason_needed=False,
            letter=letter,
            text=text,
        )

    def _ask(self, act: Callable[[], Receipt], **shown: Any) -> str | AnyResponse:  # noqa: ANN401 - the template's
        """Without a key it is the question. With one it acts and leads to the result, or shows the question again
        with what was wrong."""
        key = request.form.get("key")
        if not key:
            return render_template("ask.html", key=uuid4(), **shown)
        try:
            receipt = act()
        except PoisonError as error:
            return Response(render_template("ask.html", key=key, reasons=error.reasons, **shown), 400)
        self._wait_for(receipt)
        return redirect(f"/actions/{receipt.request}", 303)

    def _wait_for(self, receipt: Receipt) -> None:
        deadline = time.monotonic() + OUTCOME_SECONDS
        while time.monotonic() < deadline:
            found = self._reader.results("request", receipt.request)
            if len(found) >= len(receipt.taken) and all(
                labels.outcome_of(each)[0] != "under way" for each in found
            ):
                return
            time.sleep(_POLL_SECONDS)

    def result(self, request_id: str) -> str:
        found = self._reader.results("request", request_id)
        told = [(each, *labels.outcome_of(each)) for each in found]
        # What nothing came of for so long is told as it is, and not waited for.
        young = datetime.now(UTC) - timedelta(seconds=STALE_SECONDS)
        pending = not found or any(
            outcome == "under way" and each.recorded_at > young for each, outcome, _ in told
        )
        return render_template("result.html", told=told, pending=pending)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise PoisonError(Reason("json_invalid", "event", "this is no JSON")) from None
    if not isinstance(found, dict):
        raise PoisonError(Reason("json_invalid", "event", "this is no JSON object"))
    return found
