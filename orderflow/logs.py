"""Logs: one JSON object a line on stderr. Order and event ids, never personal data, a body or a stack trace."""

from __future__ import annotations

import logging
import re
import sys
from typing import Final

from pythonjsonlogger.json import JsonFormatter

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._:/#-]{0,256}")


def configure(level: str, **fields: str) -> None:
    """Every line carries the fields: what process it is that speaks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields=fields,
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)


def identifier(text: str) -> str:
    """An id as a log may have it: one that has more in it than ids have may be somebody's address."""
    return text if _IDENTIFIER.fullmatch(text) else f"({len(text)} characters)"


def where(error: BaseException) -> str:
    """The innermost file and line of an error: what a stack trace would tell, without what it might give away."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
