"""What became of the orders: the read API and the operators' console. Depends on PostgreSQL only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from werkzeug.wrappers import Response

from orderflow import wiring

if TYPE_CHECKING:
    from flask import Request

console = wiring.or_exit(wiring.query)


@functions_framework.http
def query(request: Request) -> Response:
    return Response.from_app(console, request.environ)
