"""Operators' actions over the API. An action is answered with 202 once Kafka has its event; the response has the
address where the outcome will be."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, jsonify, request

from orderflow.actions.service import Selection
from orderflow.errors import ConflictError, TransientError
from orderflow.query import masking, requests
from orderflow.query.clients import audit
from orderflow.query.requests import (
    EventEdit,
    OptionalReason,
    ReplayRequest,
    RequiredReason,
    WaitingExtension,
    action_request,
    parse_body,
)

if TYPE_CHECKING:
    from orderflow.actions.service import OperatorActions, Receipt
    from orderflow.query.store.reader import Reader

_ORDER_VERBS = "hold, release, cancel"


def blueprint(actions: OperatorActions, reader: Reader, audit_url: str | None) -> Blueprint:
    api = _Actions(actions, reader, audit_url)
    routes = Blueprint("actions", "orderflow.query.api.actions")
    routes.before_request(_check)
    routes.post(f"/api/orders/<order_id>/<any({_ORDER_VERBS}):verb>")(api.order)
    routes.post("/api/orders/<order_id>/extend")(api.extend)
    routes.post("/api/parked/replay")(api.replay_many)
    routes.post("/api/parked/<parked_id>/replay")(api.replay)
    routes.post("/api/parked/<parked_id>/edit")(api.edit)
    routes.post("/api/parked/<parked_id>/discard")(api.discard)
    routes.post("/api/audits")(api.run_audit)
    routes.get("/api/audits/last")(api.last_audit)
    routes.get("/api/actions/<request_id>")(api.results)
    return routes


def _check() -> None:
    if request.method == "POST":
        editing = request.path.endswith("/edit")
        requests.limit_body(requests.MAX_EDITED_BYTES if editing else requests.MAX_BODY_BYTES)
        requests.check_may("act", page=False)


class _Actions:
    def __init__(self, actions: OperatorActions, reader: Reader, audit_url: str | None) -> None:
        self._actions = actions
        self._reader = reader
        self._audit_url = audit_url

    def order(self, order_id: str, verb: str) -> tuple[Response, int]:
        body = parse_body(RequiredReason)
        return _response(self._actions.order(verb, order_id, action_request(body.reason)))

    def extend(self, order_id: str) -> tuple[Response, int]:
        body = parse_body(WaitingExtension)
        return _response(self._actions.extend(order_id, body.hours, action_request(body.reason)))

    def replay_many(self) -> tuple[Response, int]:
        body = parse_body(ReplayRequest)
        receipt = self._actions.replay(body.selection, action_request(body.reason), dry_run=body.dry_run)
        return _response(receipt, 200 if body.dry_run else 202)

    def replay(self, parked_id: str) -> tuple[Response, int]:
        body = parse_body(OptionalReason)
        parked = self._actions.parked_event(parked_id)
        receipt = self._actions.replay(Selection(ids=(parked.id,)), action_request(body.reason))
        for skipped in receipt.left:
            raise ConflictError(skipped.reason.text)
        return _response(receipt)

    def edit(self, parked_id: str) -> tuple[Response, int]:
        body = parse_body(EventEdit)
        return _response(self._actions.edit(parked_id, body.set, body.event, action_request(body.reason)))

    def discard(self, parked_id: str) -> tuple[Response, int]:
        body = parse_body(RequiredReason)
        return _response(self._actions.discard(parked_id, action_request(body.reason)))

    def results(self, request_id: str) -> Response:
        """No actions until the first one is recorded, and none for an unknown request."""
        results = self._reader.results_of_request(request_id)
        return jsonify({"request": request_id, "actions": [asdict(result) for result in results]})

    def last_audit(self) -> Response:
        run = self._reader.last_audit()
        if run is None:
            abort(404)
        return jsonify(run)

    def run_audit(self) -> Response:
        if not self._audit_url:
            raise TransientError("no audit can be run from here: AUDIT_URL is not set")
        return jsonify(audit.run(self._audit_url))


def _response(receipt: Receipt, status: int = 202) -> tuple[Response, int]:
    href = f"/api/actions/{receipt.request}"
    return jsonify(asdict(masking.masked_receipt(receipt)) | {"href": href}), status
