"""What others may rely on, as the running release has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, jsonify

if TYPE_CHECKING:
    from collections.abc import Mapping


def blueprint() -> Blueprint:
    routes = Blueprint("contracts", "orderflow.query.api.contracts")

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(_documents()["openapi/query.json"])

    @routes.get("/contracts")
    def listed() -> Response:
        return jsonify({"contracts": sorted(_documents())})

    @routes.get("/contracts/<path:name>")
    def one(name: str) -> Response:
        found = _documents().get(name)
        if found is None:
            abort(404)
        return jsonify(found)

    return routes


def _documents() -> Mapping[str, dict[str, Any]]:
    from orderflow.contracts.documents import documents  # a second that only who asks for them waits for

    return documents()
