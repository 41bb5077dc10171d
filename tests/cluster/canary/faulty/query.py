"""The real query with one fault, which FAULT names."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - the modules are in the same mounted folder
import functions_framework
from delivery_report import report_order
from faults import FAULT, by_chance
from flask import Request
from werkzeug.wrappers import Response

from functions.query import app


@functions_framework.http
def query(request: Request) -> Response:
    report_order(request.path)
    if FAULT == "errors" and by_chance(0.1):
        return Response("", 500)
    return Response.from_app(app, request.environ)
