"""What can go wrong in Serving."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError


class ManifestError(ValueError):
    """A manifest contains something that cannot hold here; the message names file and field."""


class StartError(Exception):
    """A process ended, or did not listen in time, before it was ready; the message says which."""


class RefusedError(Exception):
    """A request that no process answers. The caller gets `status`; with `close` the connection ends, too."""

    def __init__(self, status: int, reason: str, *, close: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.close = close


def problems(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Field and reason of each problem."""
    for problem in error.errors(include_url=False):
        field = ""
        for part in problem["loc"]:
            field += f"[{part}]" if isinstance(part, int) else f".{part}"
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            reason = "not supported by the sandbox"
        yield field.removeprefix("."), reason
