"""Query hands a wish for an audit on to the audit's Service: what its answers become."""

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
from orderflow.adapters.http.api_keys import Door
from orderflow.domain.deadlines import Gaps, Stuck
from orderflow.query.app import create_app
from orderflow.query.server_sent_events import Streams
from orderflow.query.store.action_results import DeskReader
from orderflow.query.store.overdue import Alerts
from orderflow.settings import QuerySettings


@contextmanager
def audit(status: int, body: bytes) -> Iterator[str]:
    """A Service that answers every POST so."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the test's output."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def query(audit_url: str | None) -> Client:
    settings = QuerySettings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), kafka_bootstrap="127.0.0.1:1"
    )
    reader = DeskReader(settings, Alerts(Stuck(), Gaps()))
    actions = OperatorActions(reader, lambda _topic, _events: None)
    return Client(create_app(reader, Door(None), Streams(0), actions, audit_url))


@pytest.mark.parametrize(
    ("status", "body", "answered"),
    [
        (200, json.dumps({"state": "complete"}).encode(), 200),
        (409, b"{}", 409),
        (500, b"", 503),
        (200, b"<html>", 503),
    ],
)
def test_an_answer_of_the_audit_is_handed_on_or_is_trouble(status: int, body: bytes, answered: int) -> None:
    with audit(status, body) as url:
        assert query(url).post("/api/audits").status_code == answered


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1"])
def test_an_audit_that_cannot_be_reached_is_trouble_that_time_may_cure(url: str | None) -> None:
    answer = query(url).post("/api/audits")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
