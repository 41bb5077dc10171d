"""Logs: one JSON object per line on stderr. They have order ids and event ids, never personal data, bodies or stack
traces."""

from __future__ import annotations

import logging
import re
import sys
from typing import Final

from pythonjsonlogger.json import JsonFormatter

SAFE_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._:/#-]{1,256}")
"""Ids that may be shown. An id with any other character may be somebody's address."""


def configure(level: str, **fields: str) -> None:
    """Sets up the root logger. fields identify the process and are in every line."""
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
    """The id itself where it is safe to log, else only its length."""
    return text if not text or SAFE_IDENTIFIER.fullmatch(text) else f"({len(text)} characters)"


def location(error: BaseException) -> str:
    """The innermost file and line of an error's stack trace, which has no data of the event."""
    trace = error.__traceback__
    innermost = ""
    while trace is not None:
        innermost = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return innermost
