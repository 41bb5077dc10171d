"""The sandbox's outside world as its own process, and what a test asks of it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx

from orderflow_sandbox.address import free_port
from support.stage import ROOT

START_SECONDS = 30


class Outside:
    """A real SMTP server and webhook receiver on loopback, with state in a folder."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.smtp_port = free_port()
        self.http_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.http = httpx.Client(base_url=self.url, timeout=30)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.stop()

    def start(self) -> None:
        command = [sys.executable, "-m", "orderflow_sandbox.stand_ins", "--state", str(self.state)]
        command += ["--smtp-port", str(self.smtp_port), "--http-port", str(self.http_port)]
        self._process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                self.counts()
                return
            assert self._process.poll() is None, "the outside world ended"
            assert time.monotonic() < deadline, "the outside world did not start"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    @property
    def secret_file(self) -> Path:
        return self.state / "webhook-secret"

    def notifications(self, smtp_url: str | None = None) -> str:
        """A shop's notifications.toml that names these servers, or another mail server."""
        mail = smtp_url or f"smtp://127.0.0.1:{self.smtp_port}"
        return f"""
            [shop]
            name = "Test shop"
            url = "https://shop.example"
            [email]
            from = "Test shop <orders@shop.example>"
            smtp_url = "{mail}"
            starttls = false
            [[webhooks]]
            name = "erp"
            url = "{self.url}/webhook/erp"
            secret_file = "{self.secret_file}"
            allow_private = true
            """

    def counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = self.http.get("/api/counts").json()
        return counts

    def mails(self, text: str) -> list[dict[str, Any]]:
        """Those with every word of the text in recipient, subject or Message-ID, newest first."""
        mails: list[dict[str, Any]] = self.http.get("/api/mails", params={"q": text}).json()
        return mails

    def hooks(self, order_id: str) -> list[dict[str, Any]]:
        """Requests about an order whose signature is good, newest first."""
        requests = self.http.get("/api/webhooks").json()
        return [hook for hook in requests if hook["body"] and hook["body"]["data"]["order_id"] == order_id]

    @contextlib.contextmanager
    def trouble(self, channel: str, mode: str | int, **more: Any) -> Any:
        """`smtp` or `webhook` behaves so while the block runs."""
        assert self.http.put(f"/api/faults/{channel}", json={"mode": mode} | more).status_code == 204
        try:
            yield
        finally:
            self.http.put(f"/api/faults/{channel}", content="null")
