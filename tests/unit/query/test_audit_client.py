"""Query asks the audit's Service for a run: what query answers to each of its responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr
from werkzeug.test import Client

from orderflow.actions.service import OperatorActions
from orderflow.adapters.http.api_keys import ApiKeys
from orderflow.contracts.documents import documents
from orderflow.domain.deadlines import GapLimits, StuckLimits
from orderflow.query.app import create_app
from orderflow.query.server_sent_events import EventStreams
from orderflow.query.store.overdue import Alerts
from orderflow.query.store.reader import Reader
from orderflow.settings import QuerySettings


@contextmanager
def audit(status: int, body: bytes) -> Iterator[str]:
    """A Service that answers every POST with this response."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Prints nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def query(audit_url: str | None) -> Client:
    settings = QuerySettings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), kafka_bootstrap="127.0.0.1:1"
    )
    reader = Reader(settings, Alerts(StuckLimits(), GapLimits()))
    actions = OperatorActions(reader, lambda _topic, _events: None)
    return Client(create_app(reader, ApiKeys(None), EventStreams(0), actions, documents, audit_url))


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, json.dumps({"state": "complete"}).encode(), 200),
        (409, b"{}", 409),
        (500, b"", 503),
        (200, b"<html>", 503),
    ],
)
def test_the_audits_response_is_passed_on_or_becomes_an_error(
    status: int, body: bytes, expected: int
) -> None:
    with audit(status, body) as url:
        assert query(url).post("/api/audits").status_code == expected


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b'{"title": "the database is not available: OperationalError"}', "not available: OperationalError"),
        (b'{"title": 7}', "its log says why"),
        (b"[]", "its log says why"),
        (b"{", "its log says why"),
        (b"\xff", "its log says why"),
    ],
)
def test_the_cause_that_the_audit_names_is_passed_on(body: bytes, cause: str) -> None:
    with audit(503, body) as url:
        title = query(url).post("/api/audits").json["title"]
    assert "audit answered 503" in title
    assert cause in title


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1"])
def test_an_audit_that_cannot_be_reached_is_a_503_with_a_time_to_retry(url: str | None) -> None:
    response = query(url).post("/api/audits")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
