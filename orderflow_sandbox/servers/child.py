"""A server process that is stopped in order, and never outlives the process that started it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PARENT_WATCH = Path(__file__).with_name("parent_watch.py")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of stopping: the signal, and how many seconds it may take."""

    signal: signal.Signals
    seconds: float


class Child:
    """A process in a process group of its own, so that Ctrl-C at the terminal passes it by.

    On Linux the kernel sends it `on_orphaned` when the parent dies, kill -9 included. The kernel
    means the parent *thread* by that (prctl(2)), so a thread that lives exactly as long as the
    child starts it and waits for it.
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
        """Start `command` with stdout and stderr in the file `console`; the last one is kept as .1.

        `user` needs root. A command that cannot be started ends at once, and says so in `console`.
        """
        self._exited = threading.Event()
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        if console.exists():
            console.replace(console.with_name(f"{console.name}.1"))

        tether = [sys.executable, "-I", "-S", str(_PARENT_WATCH), str(int(on_orphaned)), str(os.getpid())]

        def run() -> None:
            try:
                with console.open("wb") as output:
                    self._process = subprocess.Popen(  # noqa: S603 - the callers' own commands
                        [*tether, user or "", *command],
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
        """Its process id."""
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._exited.is_set()

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the signal's number where one ended it; None while it lives."""
        return self._running.returncode if self._exited.is_set() else None

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it ended in time."""
        return self._exited.wait(seconds)

    def stop(self, *steps: Step) -> None:
        """Send each step's signal until it has ended; SIGKILL is always the last."""
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
            message = "the process was never started"
            raise RuntimeError(message)
        return self._process
