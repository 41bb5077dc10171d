"""The parts of `make pipeline` around the builds that need no cluster: the load balancer, the repository."""

from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline import bad
from tests.pipeline.load_balancer import LoadBalancer
from tests.pipeline.origin import Origin, git


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers with the host, the path, the key and the body of the request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(409)
        self.send_header("Location", "/there")
        self.send_header("Content-Type", "application/problem+json")
        content = f"{self.headers['Host']} {self.path} {self.headers['X-API-Key']} ".encode() + body
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ingress() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_load_balancer_asks_for_the_service_by_its_name_and_changes_nothing_else(ingress: str) -> None:
    with LoadBalancer(ingress, lambda: "intake.shop.example") as balancer:
        request = urllib.request.Request(
            f"{balancer.url}/a%2Fb?c=%20d", data=b"body", headers={"X-API-Key": "k"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
    assert refused.value.code == 409
    assert refused.value.read() == b"intake.shop.example /a%2Fb?c=%20d k body"
    assert refused.value.headers["Content-Type"] == "application/problem+json"
    assert refused.value.headers["Location"] == "/there"


def test_the_bad_commit_lies_on_the_good_one_and_changes_one_file(tmp_path: Path) -> None:
    origin = Origin(tmp_path)
    commit = origin.add_bad_commit()
    assert git(origin.path, "rev-parse", "main", "main~1") == f"{commit}\n{origin.commit}"
    assert git(origin.path, "diff", "--name-only", origin.commit, commit) == bad.CHANGED_FILE
    assert git(origin.clone("again", origin.commit), "status", "--porcelain") == ""
