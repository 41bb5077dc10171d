"""Query as its manifest starts it: the Functions Framework's own gunicorn, in a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from orderflow_sandbox.address import free_port
from support.stage import ROOT, START_SECONDS

NO_KEEPALIVE = httpx.Limits(max_keepalive_connections=0)
"""For a client of query. gunicorn closes a connection that is idle for 2 s, or whose request body it did not read. A
client that keeps connections may send its next request at that moment."""
NO_KAFKA = "127.0.0.1:1"
"""Nothing listens there: what only reads needs no Kafka."""
WITHOUT_KAFKA = {"KAFKA_BOOTSTRAP": NO_KAFKA, "KAFKA_ACK_SECONDS": "1"}


@contextlib.contextmanager
def console(
    database_url: str, log: Path, *, root: Path = ROOT, python: str = sys.executable, **environment: str
) -> Iterator[str]:
    """Its address, without a slash at the end. root is the checkout whose code it is, python has its packages."""
    port = int(environment.get("PORT") or free_port())
    defaults = {
        "FUNCTION_SOURCE": "functions/query.py",
        "FUNCTION_TARGET": "query",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PYTHONPATH": str(root),
        "DATABASE_URL": database_url,
        **({} if "KAFKA_BOOTSTRAP" in environment else WITHOUT_KAFKA),
        "LOCAL_RUN": "true",
        "K_REVISION": "query-00001",
    }
    inherited = {
        name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG") if name in os.environ
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [python, "-m", "functions_framework"],
            cwd=root,
            env=inherited | defaults | environment,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, f"query ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"query did not start: {log.read_text()}"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(40)
