"""A server process that can be stopped step by step, and that never outlives the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence

_PARENT_WATCH = Path(__file__).with_name("parent_watch.py")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of stopping: a signal, and the seconds until the next step."""

    signal: signal.Signals
    seconds: float


class Child:
    """A process in a process group of its own, so that Ctrl-C at the terminal does not reach it.

    On Linux the kernel sends it `on_orphaned` when the parent dies, even by kill -9. By the parent the kernel means the
    parent *thread* (prctl(2)). So a thread starts the child and lives exactly as long as the child.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        console: Path,
        on_orphaned: signal.Signals,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Starts `command` with stdout and stderr in the file `console`. The file of the last run is kept as .1.

        `user` needs root. A command that cannot be started ends at once, with the reason in `console`.
        """
        self._exited = threading.Event()
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        if console.exists():
            console.replace(console.with_name(f"{console.name}.1"))

        parent_watch = [
            sys.executable,
            "-I",
            "-S",
            str(_PARENT_WATCH),
            str(int(on_orphaned)),
            str(os.getpid()),
        ]

        def run() -> None:
            try:
                with console.open("wb") as output:
                    self._process = subprocess.Popen(  # noqa: S603 - the callers' own commands
                        [*parent_watch, user or "", *command],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=env,
                        process_group=0,
                    )
            except OSError as error:
                self._failure = error
                return
            finally:
                self._started.set()
            self._process.wait()
            self._exited.set()

        threading.Thread(target=run, name=f"child {command[0]}", daemon=True).start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def alive(self) -> bool:
        return not self._exited.is_set()

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative number of the signal that ended the process; None while it runs."""
        return self._running.returncode if self._exited.is_set() else None

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the process. Returns whether it ended in time."""
        return self._exited.wait(seconds)

    def stop(self, *steps: Step) -> None:
        """Sends the signal of each step until the process has ended. SIGKILL is always the last."""
        for step in steps:
            if not self.alive:
                return
            self._running.send_signal(step.signal)
            if self.wait(step.seconds):
                return
        self._running.kill()
        self._exited.wait()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the process was never started")
        return self._process
