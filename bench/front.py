"""`python -m bench.front [--against REVISION]`: the CPU time of a request in the sandbox's HTTP front and client.

One process runs the front (Serving's proxy) and, in turn, delivery's client, with requests as KafkaSource sends them.
CPU is the user and system time of that process, per request. With --against, another revision of this repository is
measured in turn with the working tree, and the ratio is printed.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, Self

import psutil

from bench import load, machine, workload
from orderflow import settings
from orderflow.domain.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

PROCESS: Final = Path(__file__).with_name("front_process.py")
WORKING_TREE: Final = "working tree"
ANSWER: Final = """\
import os

if os.environ["CORE"]:
    os.sched_setaffinity(0, {int(os.environ["CORE"])})

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    cores = machine.Cores.of_this_machine()
    cores.pin_this_process()
    print(machine.hardware())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orderflow-front-")))
        (folder / "answer.py").write_text(ANSWER)
        roots = {WORKING_TREE: machine.ROOT}
        if options.against:
            roots[options.against] = _checked_out(options.against, folder / "against")
        fronts = {
            name: stack.enter_context(_Process(name, root, folder, cores)) for name, root in roots.items()
        }
        figures: dict[tuple[str, str], list[float]] = {}
        for number in range(options.rounds + 1):
            for name, process in fronts.items():
                for part, cpu_us in process.round(options.requests, options.in_flight).items():
                    # The first round warms up.
                    if number:
                        figures.setdefault((part, name), []).append(cpu_us)
    for part in ("front", "client"):
        for name in roots:
            values = figures[part, name]
            print(
                f"{part:7} {name:14} {median(values):6.1f} us CPU a request  {[round(each, 1) for each in values]}"
            )
        if options.against:
            ratio = median(figures[part, WORKING_TREE]) / median(figures[part, options.against])
            print(f"{part:7} {WORKING_TREE} / {options.against}: {ratio:.2f}")
    return 0


def _checked_out(revision: str, folder: Path) -> Path:
    archive = subprocess.run(
        ["git", "archive", revision, "orderflow", *_existing(revision, "orderflow_sandbox")],
        cwd=machine.ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def _existing(revision: str, path: str) -> list[str]:
    """The path where the revision has it, else nothing."""
    command = ["git", "cat-file", "-e", f"{revision}:{path}"]
    check = subprocess.run(command, cwd=machine.ROOT, check=False, stderr=subprocess.DEVNULL)
    return [] if check.returncode else [path]


class _Process:
    """A running front_process.py, with the front and the client of one revision."""

    def __init__(self, name: str, root: Path, folder: Path, cores: machine.Cores) -> None:
        command = [
            sys.executable,
            str(PROCESS),
            str(root),
            str(folder),
            "" if cores.servers is None else str(cores.servers),
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root)},
        )
        self._name = name
        self._cores = cores

    def __enter__(self) -> Self:
        if self._cores.measured is not None:
            psutil.Process(self._process.pid).cpu_affinity([self._cores.measured])
        self._port = int(self._line())
        rules = settings.read_toml(Rules, machine.ROOT / "examples/rules.toml", "RULES_FILE")
        self._events = workload.make(250, rules).events
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.close()
        self._process.wait(machine.STOP_SECONDS)

    def round(self, requests: int, in_flight: int) -> dict[str, float]:
        events = [self._events[number % len(self._events)] for number in range(requests)]
        all_requests = [load.delivered(event) for event in events]
        before = self._cpu()
        responses = load.send(self._port, [all_requests[number::in_flight] for number in range(in_flight)])
        front = self._cpu() - before
        if responses.statuses != {202: requests}:
            raise RuntimeError(f"{self._name}: not every response was a 202: {responses.statuses}")
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(f"{requests} {in_flight}\n")
        self._process.stdin.flush()
        return {"front": 1e6 * front / requests, "client": float(self._line())}

    def _cpu(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def _line(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name}: the process ended")
        return line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.front", description=__doc__)
    parser.add_argument("--against", metavar="REVISION", help="of this repository, measured in turn")
    parser.add_argument("--requests", type=int, default=10_000, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=32)
    return parser


if __name__ == "__main__":
    sys.exit(main())
