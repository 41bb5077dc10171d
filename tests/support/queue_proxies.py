"""What the queue-proxies of one revision's pods export, for a Prometheus to scrape. A test counts the answers."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from orderflow_sandbox.address import free_port


class Pod:
    """The metrics of one pod's queue-proxy, at an address that is known before the pod is there."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.port = free_port()
        self._answers: Counter[tuple[str, int]] = Counter()
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = pod.metrics().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def restart(self) -> None:
        """The queue-proxy counts from 0 again, at the same address."""
        self._answers.clear()

    def count(self, answer: httpx.Response) -> httpx.Response:
        self._answers[answer.request.method, answer.status_code] += 1
        return answer

    def metrics(self) -> str:
        lines = [f'target_info{{kn_revision_name="{self.revision}"}} 1']
        lines += [
            f'http_server_request_duration_seconds_count{{http_request_method="{method}",'
            f'http_response_status_code="{status}"}} {number}'
            for (method, status), number in sorted(self._answers.items())
        ]
        return "\n".join(lines) + "\n"
