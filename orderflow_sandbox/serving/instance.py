"""One process of a revision, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import psutil

from orderflow_sandbox.http_client import ConnectionPool
from orderflow_sandbox.serving.errors import StartError
from orderflow_sandbox.serving.launch import LOOPBACK, Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_FIRST_POLL = 0.01
_SLOWEST_POLL = 0.1
_KILL_AFTER = 10.0
# gunicorn closes an idle connection after 2 s, uvicorn after 5 s.
_FRESH_SECONDS = 1.5
_LAST_PORT = 32000


class PortAllocator:
    """Free ports from `first` to 32000, in turn. The kernel's range for outgoing connections begins above."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._next = first

    def take(self) -> int:
        """A port on which nothing listens now. Raises StartError where there is none."""
        for _ in range(self._first, _LAST_PORT):
            port = self._next
            self._next = port + 1 if port + 1 < _LAST_PORT else self._first
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):
                    probe.bind((LOOPBACK, port))
                    return port
        raise StartError(f"no free port from {self._first} to {_LAST_PORT}")


class Instance:
    """A process, its port, and the requests that are in flight to it."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.in_flight = 0
        self.draining = False
        self.start_seconds = 0.0
        self.connections = ConnectionPool(LOOPBACK, port, fresh_seconds=_FRESH_SECONDS)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._idle = asyncio.Event()

    @property
    def pid(self) -> int:
        """The id of the process and of its process group; 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self, command: Launch, root: Path, deadline: float) -> None:
        """Starts the process and waits until its port accepts connections, `deadline` seconds at most.

        Raises StartError where the process ended or did not listen in time.
        """
        started_at = time.monotonic()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command.argv,
                    env=dict(command.env),
                    cwd=root,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_end_with_parent(os.getpid()),
                )
            except OSError as error:
                raise StartError(f"{command.argv[0]}: {error.strerror}") from error
        await self._until_listening(started_at + deadline)
        self.start_seconds = time.monotonic() - started_at

    async def _until_listening(self, deadline: float) -> None:
        process = self._running()
        wait = _FIRST_POLL
        while time.monotonic() < deadline:
            if process.returncode is not None:
                raise StartError(f"ended with {process.returncode} before its port accepted")
            if await _accepts(self.port) and self._listens():
                return
            await asyncio.sleep(wait)
            wait = min(wait * 1.2, _SLOWEST_POLL)
        raise StartError(f"port {self.port} did not accept in time")

    def _listens(self) -> bool:
        """Whether this process owns the port. Another program may have taken it in the meantime."""
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections(kind="tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port:
                        return True
        return False

    async def ended(self) -> int:
        """Waits for the end of the process, and returns its exit status."""
        return await self._running().wait()

    def rss(self) -> int:
        """Resident bytes of the process and its children."""
        total = 0
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                total += int(process.memory_info().rss)
        return total

    def take(self) -> None:
        self.in_flight += 1

    def release(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def drain(self, patience: float) -> None:
        """Waits for the requests in flight, `patience` seconds at most, and then ends the process."""
        self.draining = True
        self.connections.close()
        if self.in_flight:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), patience)
        await self.end()

    async def end(self) -> None:
        """SIGTERM to the process; after its end, or after 10 s, SIGKILL to its whole process group."""
        self.draining = True
        self.connections.close()
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _KILL_AFTER)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise StartError("not started")
        return self._process

    def _family(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            yield process
            yield from process.children(recursive=True)


def _end_with_parent(parent: int) -> Callable[[], None]:
    """Run in the child: the kernel kills it when the sandbox dies, even by SIGKILL."""

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def bound_log(path: Path, bound: int) -> None:
    """Keeps a log under `bound` bytes: copies a larger one to `.1` and empties it."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > bound:
            # The processes have the file open for appending, so it cannot be renamed.
            path.with_name(f"{path.name}.1").write_bytes(path.read_bytes())
            os.truncate(path, 0)
