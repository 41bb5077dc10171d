"""Processes that a test looks at from outside."""

import contextlib

import psutil


def runs(pid: int) -> bool:
    """One that has ended and that nobody has waited for does not."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
