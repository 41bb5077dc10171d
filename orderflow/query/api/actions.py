"""What operators do, over the API: every action answers 202 once Kafka has it, and says where its outcome is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, jsonify, request

from orderflow.actions.service import Selection
from orderflow.errors import ConflictError, UnavailableError
from orderflow.query import masking, requests
from orderflow.query.clients import audit
from orderflow.query.requests import Edit, Longer, MustSayWhy, ReplayMany, Why, asked, body

if TYPE_CHECKING:
    from orderflow.actions.service import OperatorActions, Receipt
    from orderflow.query.store.action_results import DeskReader

_OF_AN_ORDER = "hold, release, cancel"


def blueprint(desk: OperatorActions, reader: DeskReader, audit_url: str | None) -> Blueprint:
    api = _Actions(desk, reader, audit_url)
    routes = Blueprint("actions", "orderflow.query.api.actions")
    routes.before_request(_guard)
    routes.post(f"/api/orders/<order_id>/<any({_OF_AN_ORDER}):verb>")(api.order)
    routes.post("/api/orders/<order_id>/extend")(api.extend)
    routes.post("/api/parked/replay")(api.replay_many)
    routes.post("/api/parked/<parked_id>/replay")(api.replay)
    routes.post("/api/parked/<parked_id>/edit")(api.edit)
    routes.post("/api/parked/<parked_id>/discard")(api.discard)
    routes.post("/api/audits")(api.run_audit)
    routes.get("/api/audits/last")(api.last_audit)
    routes.get("/api/actions/<request_id>")(api.results)
    return routes


def _guard() -> None:
    if request.method == "POST":
        editing = request.path.endswith("/edit")
        request.max_content_length = requests.MOST_EDITED if editing else requests.MOST_BODY
        requests.guard(page=False)


def receipt_of(receipt: Receipt) -> dict[str, object]:
    return asdict(masking.receipt(receipt)) | {"href": f"/api/actions/{receipt.request}"}


class _Actions:
    def __init__(self, desk: OperatorActions, reader: DeskReader, audit_url: str | None) -> None:
        self._desk = desk
        self._reader = reader
        self._audit_url = audit_url

    def order(self, order_id: str, verb: str) -> tuple[Response, int]:
        why = body(MustSayWhy)
        return _taken(self._desk.order(verb, order_id, asked(why.reason)))

    def extend(self, order_id: str) -> tuple[Response, int]:
        longer = body(Longer)
        return _taken(self._desk.extend(order_id, longer.hours, asked(longer.reason)))

    def replay_many(self) -> tuple[Response, int]:
        wanted = body(ReplayMany)
        receipt = self._desk.replay(wanted.selection, asked(wanted.reason), dry_run=wanted.dry_run)
        return _taken(receipt, 200 if wanted.dry_run else 202)

    def replay(self, parked_id: str) -> tuple[Response, int]:
        why = body(Why)
        letter = self._desk.parked_event(parked_id)
        receipt = self._desk.replay(Selection(ids=(letter.id,)), asked(why.reason))
        for left in receipt.left:
            raise ConflictError(left.reason.text)
        return _taken(receipt)

    def edit(self, parked_id: str) -> tuple[Response, int]:
        edit = body(Edit)
        return _taken(self._desk.edit(parked_id, edit.set, edit.event, asked(edit.reason)))

    def discard(self, parked_id: str) -> tuple[Response, int]:
        why = body(MustSayWhy)
        return _taken(self._desk.discard(parked_id, asked(why.reason)))

    def results(self, request_id: str) -> Response:
        """Empty until the first action of the request is on record."""
        found = self._reader.results("request", request_id)
        return jsonify({"request": request_id, "actions": [asdict(result) for result in found]})

    def last_audit(self) -> Response:
        found = self._reader.last_audit()
        if found is None:
            abort(404)
        return jsonify(found)

    def run_audit(self) -> Response:
        if not self._audit_url:
            raise UnavailableError("no audit can be asked for here: AUDIT_URL is not set")
        return jsonify(audit.run(self._audit_url))


def _taken(receipt: Receipt, status: int = 202) -> tuple[Response, int]:
    return jsonify(receipt_of(receipt)), status
