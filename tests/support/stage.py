"""A stage as its own process, as the manifests start it, and a client that speaks CloudEvents to it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx

from orderflow.messaging.cloudevent import STRUCTURED, CloudEvent
from orderflow_sandbox.address import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 30


class Stage:
    """One process of functions/<name>.py on loopback; its log is kept for the test to read."""

    def __init__(
        self, name: str, log: Path, *, root: Path = ROOT, python: str = sys.executable, **environment: str
    ) -> None:
        """root is the checkout whose code it is, python has its packages."""
        self.name = name
        self._root = root
        self._python = python
        self.log = log
        self.port = free_port()
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def __enter__(self) -> Self:
        command = [self._python, "-m", "uvicorn", "--factory", "functions_framework.aio:create_asgi_app"]
        command += ["--port", str(self.port), "--no-access-log", "--log-level", "warning"]
        known = {
            "FUNCTION_SOURCE": f"functions/{self.name}.py",
            "FUNCTION_TARGET": self.name,
            "PYTHONPATH": str(self._root),
            "RULES_FILE": str(rules_file(self._root)),
            "LOCAL_RUN": "true",
            "K_REVISION": f"{self.name}-00001",
        }
        inherited = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG")
            if name in os.environ
        }
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self._root,
                env=inherited | known | self._environment,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            assert self._process.poll() is None, f"{self.name} ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"{self.name} did not start: {self.log.read_text()}"
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.stop(signal.SIGTERM)

    def stop(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def binary(self, event: CloudEvent, **headers: str) -> httpx.Response:
        return self.http.post("/", content=event.data, headers=binary_headers(event) | headers)

    def structured(self, event: CloudEvent, **headers: str) -> httpx.Response:
        document = event.attributes() | {
            "datacontenttype": event.content_type,
            "data": json.loads(event.data),
        }
        return self.http.post("/", json=document, headers={"content-type": STRUCTURED} | headers)

    def events_in_log(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def rules_file(root: Path = ROOT) -> Path:
    """The rules that let tests send any kind of event as any source. root is the checkout whose code reads them."""
    open_rules = root / "tests/support/open_rules.toml"
    return open_rules if open_rules.exists() else root / "examples/rules.toml"


def binary_headers(event: CloudEvent) -> dict[str, str]:
    named = {f"ce-{name}": value for name, value in event.attributes().items()}
    return named | {"content-type": event.content_type}
