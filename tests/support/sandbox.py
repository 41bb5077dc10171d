"""The command orderflow as a user calls it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from typer.testing import CliRunner, Result

from orderflow_sandbox.address import Address, free_port, running
from orderflow_sandbox.cli import app

COMMAND = str(Path(sys.executable).with_name("orderflow"))
START_SECONDS = 120
SETTLE_SECONDS = 120


def orderflow(*arguments: str, seconds: float = 280) -> subprocess.CompletedProcess[str]:
    """Runs to its end, with embedded servers of its own whatever servers the tests' environment names."""
    return subprocess.run(
        [COMMAND, *arguments],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def orderflow_in_process(*arguments: str) -> Result:
    """The same command in the test's own process, which takes a tenth of the CPU time. For commands that start no
    server."""
    return CliRunner().invoke(app, arguments, env=dict.fromkeys(("KAFKA_BOOTSTRAP", "DATABASE_URL")))


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name not in {"KAFKA_BOOTSTRAP", "DATABASE_URL"}
    }


def three_free_ports() -> int:
    """The first of three in a row, below those that the kernel hands out."""
    while True:
        first = 10_000 + free_port() % 10_000
        used_ports = {each.laddr.port for each in psutil.net_connections("inet") if each.laddr}
        if not used_ports & {first, first + 1, first + 2}:
            return first


def left_behind(state: Path) -> list[str]:
    """Processes that still belong to a sandbox of that state folder."""
    processes = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or ()) + str(
            (process.info["environ"] or {}).get("NOTIFICATIONS_FILE")
        )
        if str(state) in command and process.pid != os.getpid():
            processes.append(command[:120])
    return processes


class Up:
    """`orderflow up` on a state folder, until the block ends."""

    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        self.port = three_free_ports()
        self._options = options
        self._process: subprocess.Popen[bytes]
        self.address: Address

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Also after stop(), on the same folder."""
        command = [COMMAND, "up", "--state", str(self.state), "--port", str(self.port), "--partitions", "8"]
        command += self._options
        with self.state.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while (address := running(self.state)) is None:
            assert self._process.poll() is None, self.state.with_suffix(".log").read_text()
            assert time.monotonic() < deadline, self.state.with_suffix(".log").read_text()
            time.sleep(0.05)
        self.address = address

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self._process.send_signal(how)
        return self._process.wait(60)

    def services(self) -> dict[str, Any]:
        """What `orderflow status` prints, by name. A process for each look would take most of a test's CPU time."""
        control = json.loads((self.state / "control.json").read_text())
        headers = {"Authorization": f"Bearer {control['token']}"}
        answer = httpx.get(f"{control['control']}/status", headers=headers, timeout=30)
        return {each["name"]: each for each in answer.raise_for_status().json()}

    def order(self, order_id: str) -> dict[str, Any] | None:
        answer = httpx.get(f"{self.address.query}/api/orders/{order_id}", timeout=30)
        return answer.json() if answer.status_code == httpx.codes.OK else None


def last_line(text: str) -> str:
    return re.sub(r"\s+", " ", [line for line in text.splitlines() if line.startswith("orders:")][-1])


def until(poll: Any, *, seconds: float = SETTLE_SECONDS) -> Any:
    """Calls `poll` until it returns something true, and returns that. Fails after a deadline."""
    deadline = time.monotonic() + seconds
    while not (value := poll()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.1)
    return value
