"""Points at which a stage ends or stops, where a trigger file asks for it.

A trigger is `<stage>.<point>`, its content KILL or STOP. Whoever renames it first is struck, so that one trigger
strikes one process. Without triggers a faulty stage is the real one.
"""

import functools
import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from orderflow.errors import ConflictError

_FOLDER = Path(os.environ["CHAOS_TRIGGERS"])
_STAGE = os.environ["K_SERVICE"]
Call = Callable[..., Awaitable[Any]]


def around(call: Call, *, before: str = "", after: str = "", when: Callable[..., bool] | None = None) -> Call:
    """The same call, with a point before or after it; when looks at its arguments."""

    @functools.wraps(call)
    async def guarded(*arguments: Any, **named: Any) -> Any:
        due = when is None or when(*arguments)
        if before and due:
            strike(before)
        try:
            result = await call(*arguments, **named)
        except ConflictError:
            (_FOLDER / f"{_STAGE}.fenced").touch()
            raise
        if after and due:
            strike(after)
        return result

    return guarded


def strike(point: str) -> None:
    trigger = _FOLDER / f"{_STAGE}.{point}"
    struck = _FOLDER / f"{_STAGE}.{point}.struck-{os.getpid()}"
    try:
        trigger.rename(struck)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.Signals[f"SIG{struck.read_text()}"])


def innermost(endpoint: Any) -> Any:
    """The stage's own endpoint, without what is around it, such as its liveness."""
    while hasattr(endpoint, "_endpoint"):
        endpoint = endpoint._endpoint
    return endpoint


def handler(endpoint: Any) -> Any:
    """The object whose method handles the stage's events, without what is around the method."""
    return inspect.unwrap(innermost(endpoint)._handle).__self__
