"""Failures of an embedded server, worded for the person at the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LINES_SHOWN = 12


class ServerFailedError(Exception):
    """A server did not start, or died, or is not the one that the caller expects."""


class TopicMismatchError(ServerFailedError):
    """A topic exists with another partition count than the caller named."""


def with_log(problem: str, log: Path) -> ServerFailedError:
    """One error of `problem`, the log's path and the log's last lines."""
    try:
        tail = log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
    except FileNotFoundError:
        tail = []
    return ServerFailedError("\n  ".join([f"{problem}; its log is {log}", *tail]))
