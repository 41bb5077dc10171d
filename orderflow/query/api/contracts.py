"""The contracts of the running release: OpenAPI, AsyncAPI and JSON Schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from flask import Blueprint, Response, abort, jsonify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Documents: TypeAlias = "Callable[[], Mapping[str, dict[str, Any]]]"
"""The documents by path, made when they are first requested: that takes a second, which no start should wait for."""


def blueprint(documents: Documents) -> Blueprint:
    routes = Blueprint("contracts", "orderflow.query.api.contracts")

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(documents()["openapi/query.json"])

    @routes.get("/contracts")
    def paths() -> Response:
        return jsonify({"contracts": sorted(documents())})

    @routes.get("/contracts/<path:name>")
    def document(name: str) -> Response:
        content = documents().get(name)
        if content is None:
            abort(404)
        return jsonify(content)

    return routes
