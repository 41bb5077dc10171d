"""A canary of query is compared with stable by the answers that both give."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.console import console
from support.databases import database_with_everything

STABLE, CANARY = "query-00001", "query-00002"
Change = Callable[[str, int, Any], tuple[int, Any]]


class Revisions:
    """Both revisions at one address, with a revision's name as the first part of the path. The canary's answers are
    those of stable after change(path, status, document)."""

    def __init__(self) -> None:
        self.query = ""
        self.change: Change = unchanged
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, revision, rest = self.path.split("/", 2)
                answer = httpx.get(f"{outer.query}/{rest}", timeout=30)
                status, document = answer.status_code, answer.json()
                if revision == CANARY:
                    status, document = outer.change(f"/{rest}", status, document)
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/{{revision}}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        yield
        self._server.shutdown()
        self._server.server_close()

    def compare(self, change: Change) -> dict[str, Any]:
        self.change = change
        arguments = {"canary": CANARY, "stable": STABLE, "sample": "5", "since": "2026-11-01"}
        answer = httpx.get(f"{self.query}/api/releases/query/shadow", params=arguments, timeout=60)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document


def unchanged(_path: str, status: int, document: Any) -> tuple[int, Any]:
    return status, document


def failing_at_times(path: str, status: int, document: Any) -> tuple[int, Any]:
    return (500, {}) if path.startswith("/api/parked") else (status, document)


def with_wrong_totals(path: str, status: int, document: Any) -> tuple[int, Any]:
    return status, document | {"total": 1} if path.startswith("/api/orders/") else document


def without_orders(path: str, status: int, document: Any) -> tuple[int, Any]:
    return status, document | {"orders": []} if path.startswith("/api/orders?") else document


def with_another_member(_path: str, status: int, document: Any) -> tuple[int, Any]:
    return status, document | {"novelty": True} if isinstance(document, dict) else document


@pytest.fixture(scope="module")
def revisions(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revisions]:
    log: Path = tmp_path_factory.mktemp("query-shadow") / "query.log"
    revisions = Revisions()
    with (
        revisions.serving(),
        database_with_everything(database_url) as url,
        console(url, log, SHADOW_URL=revisions.address) as revisions.query,
    ):
        yield revisions


@pytest.mark.parametrize("change", [unchanged, with_another_member])
def test_equal_answers_and_additions_are_no_difference(revisions: Revisions, change: Change) -> None:
    result = revisions.compare(change)
    assert result["verdict"] == "fine"
    assert result["compared"] >= 5


@pytest.mark.parametrize("change", [failing_at_times, with_wrong_totals, without_orders])
def test_another_answer_is_a_difference_that_is_named(revisions: Revisions, change: Change) -> None:
    result = revisions.compare(change)
    assert result["verdict"] == "different"
    assert result["differences"][0]["reason"].startswith("/api/")


def test_a_revision_that_cannot_be_reached_is_unknown_and_no_error(
    database_url: str, tmp_path: Path, revisions: Revisions
) -> None:
    with (
        database_with_everything(database_url) as url,
        console(url, tmp_path / "query.log", SHADOW_URL="http://127.0.0.1:1/{revision}") as address,
    ):
        away = Revisions()
        away.query = address
        assert away.compare(unchanged)["verdict"] == "unknown"
