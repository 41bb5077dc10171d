"""Servers that are frozen: their connections stay open, the kernel acknowledges what is sent, and nobody answers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from support.waiting import until


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stops a process and its children, and waits until they have stopped: a signal takes a moment."""
    server = psutil.Process(pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in processes))
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
