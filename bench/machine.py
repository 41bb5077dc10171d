"""The machine: which processes run on which core, and the CPU time of a process."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Cores:
    """Kafka, PostgreSQL and the load generator share the first core; the measured processes have the last one alone."""

    servers: int | None
    measured: int | None

    @classmethod
    def of_this_machine(cls) -> Self:
        """Pins nothing where there is only one core or where the system cannot pin a process."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1]) if len(cores) > 1 else cls(None, None)

    def pin_this_process(self) -> None:
        """Pins this process, and the servers that it will start, to the servers' core."""
        if self.servers is not None:
            os.sched_setaffinity(0, {self.servers})

    def sentence(self) -> str:
        if self.measured is None:
            return "no process is pinned to a core: figures of one run are hardly comparable"
        return (
            f"Kafka, PostgreSQL and the load on core {self.servers},"
            f" the measured processes together on core {self.measured}"
        )


def hardware() -> str:
    """One line: processor, cores, memory, system, Python."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}, Python {platform.python_version()}"


def cpu_seconds(*pids: int | None) -> float:
    """User and system time of the processes and of all their descendants, including those that have ended."""
    total = 0.0
    for pid in pids:
        if pid is None:
            continue
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:4])
    return total


class Measured:
    """A process on the measured core; its output goes to a file."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, cores: Cores, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=inherited | {"PYTHONPATH": str(ROOT)} | dict(environment),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        # At once, before the process starts threads: threads inherit the affinity.
        if cores.measured is not None:
            os.sched_setaffinity(self._process.pid, {cores.measured})

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    def check(self) -> None:
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with exit code {self._process.returncode}:\n{tail}")

    def wait(self, seconds: float) -> None:
        """Waits until the process ends. Raises RuntimeError where its exit code is not 0."""
        self._process.wait(seconds)
        if self._process.returncode:
            self.check()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def await_true(
    condition: str, seconds: float, ready: Callable[[], object], *processes: Measured, pause: float = 0.02
) -> None:
    """Polls until ready() is true. Raises TimeoutError, or RuntimeError where a process has ended."""
    deadline = time.monotonic() + seconds
    while not ready():
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition}: not within {seconds:g} s")
        time.sleep(pause)
