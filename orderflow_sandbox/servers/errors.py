"""What can go wrong with an embedded server, in words for the person at the terminal."""

from pathlib import Path

_LINES_SHOWN = 12


class ServerFailedError(Exception):
    """A server did not start, died, or is not what the caller thinks it is."""


class TopicMismatchError(ServerFailedError):
    """A topic exists with another partition count than asked for."""


def with_log(problem: str, log: Path) -> ServerFailedError:
    """`problem` followed by the log's path and its last lines, as one error."""
    try:
        tail = log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
    except FileNotFoundError:
        tail = []
    return ServerFailedError("\n  ".join([f"{problem}; its log is {log}", *tail]))
